"""What a camera's images say of it, as a message."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from eomt_ext_core.health import Fault, Health

WELL = "nothing wrong in the images"
NOT_JUDGED = "no image was judged yet, or health.enabled is false"


def level_of(fault: Fault) -> bytes:
    """Give the level of a fault: ERROR if the images cannot be relied upon, else WARN."""
    level: bytes = DiagnosticStatus.ERROR if fault.is_error else DiagnosticStatus.WARN
    return level


def to_health_msg(health: Health | None, name: str, hardware_id: str) -> DiagnosticStatus:
    """Build a status of a camera.

    Args:
        health: of the camera; None, which gives the level STALE, if no image was judged.
        name: of the status.
        hardware_id: the topic of the images.

    Returns:
        a status whose values are the stamps, in seconds, since when there is which fault.
    """
    if health is None:
        return DiagnosticStatus(level=DiagnosticStatus.STALE, name=name, message=NOT_JUDGED, hardware_id=hardware_id)
    return DiagnosticStatus(
        level=max(map(level_of, health.faults), default=DiagnosticStatus.OK),
        name=name,
        message="; ".join(fault.text for fault in health.faults) or WELL,
        hardware_id=hardware_id,
        values=[KeyValue(key=fault.kind, value=f"{fault.since_s:.3f}") for fault in health.faults],
    )
