"""What an operator reads on /diagnostics: statuses, built from a snapshot of the node and its cameras.

Levels: ERROR if an image failed, until one is published, a camera is not well by its images, or the node itself reports
an error; WARN if the node does not run, a camera is silent or has dirt on it, its newest image was rejected, its images
are no longer like those that were learnt from or come without their colours, its masks cover most of the image for
seconds, its obstacles were not located on the ground, images are published late or not at all, or their stamps are of
another clock; else OK. Images dropped for newer ones are no fault: the node processes the newest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from eomt_ext_ros.diagnostics.camera_statistics import CameraSnapshot
from eomt_ext_ros.diagnostics.sliding_window import Percentiles
from eomt_ext_ros.messages.health_message import level_of
from eomt_ext_ros.parameters.node_config import DiagnosticsConfig

FOREIGN_CLOCK_S = 3600.0  # no image takes this long: the stamps are of another clock
FULL_MASK_AFTER_S = 3.0  # something large may pass close by

_ALWAYS_COUNTED = ("received", "published", "dropped", "skipped")


class Endpoint(NamedTuple):
    """A publisher of a topic: its QoS in words, and why its type or QoS does not match ours, or empty."""

    qos: str
    mismatch: str = ""


@dataclass(frozen=True)
class InputTopic:
    """A topic that is subscribed to, by its resolved name, with our QoS and every publisher that is there."""

    name: str
    qos: str
    publishers: Sequence[Endpoint] = ()


@dataclass(frozen=True)
class NodeSnapshot:
    """The node at one moment.

    Attributes:
        name: of the node with its namespace; slashes before it are left out.
        state: of the lifecycle: ``unconfigured``, ``inactive``, ``active`` …
        enabled: whether an active node processes images.
        least_period_s: between two images of a camera that are processed.
        error: what keeps the whole node from its work, such as a checkpoint that cannot be read; or empty.
        facts: of the engine, as it describes itself; empty without one.
        gpu_memory: as :func:`~eomt_ext_ros.diagnostics.publisher.gpu_memory` gives it; empty without a GPU.
        simulated_time: whether latencies are of simulated time.
        cameras: each with its input, None if there is none.
    """

    name: str
    state: str
    enabled: bool = True
    least_period_s: float = 0.0
    error: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    gpu_memory: Mapping[str, str] = field(default_factory=dict)
    simulated_time: bool = False
    cameras: Sequence[tuple[CameraSnapshot, InputTopic | None]] = ()

    @property
    def idle(self) -> str:
        """Why no image is processed, or empty."""
        if self.state != "active":
            return f"node is {self.state}; images are not processed"
        return "" if self.enabled else "node is disabled by ~/set_enabled; images are not processed"


Finding = tuple[bytes, str]


def build_statuses(node: NodeSnapshot, config: DiagnosticsConfig) -> list[DiagnosticStatus]:
    """Build a status of the node, ``<node>: inference``, and one of each camera, ``<node>: camera <name>``."""
    findings = [(DiagnosticStatus.ERROR, node.error)] if node.error else []
    findings += [(DiagnosticStatus.WARN, node.idle)] if node.idle else []
    node_name = node.name.lstrip("/")
    device = node.facts.get("device_name") or node.facts.get("device", "")
    values = {"state": node.state, "enabled": str(node.enabled).lower(), **node.facts, **node.gpu_memory}
    statuses = [_status(f"{node_name}: inference", device, findings, f"running on {device}", values)]
    for camera, topic in node.cameras:
        findings = list(_camera_findings(camera, topic, node, config))
        name = f"{node_name}: camera {camera.name}".rstrip()
        hardware_id = topic.name if topic else camera.name
        statuses.append(_status(name, hardware_id, findings, _in_order(camera), _camera_values(camera, topic, node)))
    return statuses


def unknown_status(node: str, why: str) -> DiagnosticStatus:
    """Build the status of a node, by its name with the namespace, of which nothing else can be reported."""
    return _status(f"{node.lstrip('/')}: inference", "", [(DiagnosticStatus.ERROR, f"diagnostics fail: {why}")], "", {})


def _status(
    name: str, hardware_id: str, findings: Sequence[Finding], in_order: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    worst_first = sorted(findings, key=lambda finding: finding[0], reverse=True)
    return DiagnosticStatus(
        level=worst_first[0][0] if worst_first else DiagnosticStatus.OK,
        name=name,
        message="; ".join(text for _, text in worst_first) or in_order,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _camera_findings(
    camera: CameraSnapshot, topic: InputTopic | None, node: NodeSnapshot, config: DiagnosticsConfig
) -> Iterator[Finding]:
    if camera.failure:
        yield DiagnosticStatus.ERROR, f"image not processed: {camera.failure}"
    if node.idle:
        yield DiagnosticStatus.WARN, node.idle
        return
    for fault in camera.health.faults if camera.health else ():
        yield level_of(fault), f"camera is not well: {fault.text}"
    if camera.waiting_s > config.silent_after_s:
        yield DiagnosticStatus.WARN, _silence(camera, topic)
    elif camera.unprocessed_s > node.least_period_s + config.silent_after_s:
        yield DiagnosticStatus.WARN, f"receiving images, none processed for {camera.unprocessed_s:.1f} s"
    if camera.rejection:
        yield DiagnosticStatus.WARN, f"newest image rejected: {camera.rejection}"
    if camera.no_ground:
        yield DiagnosticStatus.WARN, f"no ground output: {camera.no_ground}"
    if camera.lost_colours:
        yield DiagnosticStatus.WARN, f"image without colours: {camera.lost_colours}"
    if camera.drift:
        yield DiagnosticStatus.WARN, camera.drift
    if camera.full_mask_s >= FULL_MASK_AFTER_S:
        yield (
            DiagnosticStatus.WARN,
            f"the mask has covered most of the image for {camera.full_mask_s:.1f} s, now {camera.mask_fraction:.2f} of "
            f"it: the threshold {node.facts.get('threshold', 'in force')} does not fit these images; set another, or "
            "calibrate",
        )
    latency_s = camera.latency_s.p50_s if camera.latency_s else 0.0
    if latency_s < 0:
        yield DiagnosticStatus.WARN, f"stamps are {-latency_s:.3f} s ahead of the node's clock: synchronise the clocks"
    elif latency_s > FOREIGN_CLOCK_S:
        yield DiagnosticStatus.WARN, f"stamps are {latency_s:.0f} s old: set use_sim_time, or synchronise the clocks"
    elif camera.late_in_a_row >= config.late_frames:
        yield (
            DiagnosticStatus.WARN,
            f"{camera.late_in_a_row} images in a row later than {config.late_after_s:g} s: {_in_order(camera)}",
        )


def _silence(camera: CameraSnapshot, topic: InputTopic | None) -> str:
    silence = f"for {camera.waiting_s:.1f} s"
    if topic is None:
        return f"no image {silence}: there is no subscription"
    count = len(topic.publishers)
    text = f"no image on {topic.name} {silence}: {count} publisher{'' if count == 1 else 's'}"
    if not count:
        return f"{text}, subscribed as {topic.qos}"
    text = f"{text} ({_qos_of(topic.publishers)}), subscribed as {topic.qos}"
    mismatches = {publisher.mismatch for publisher in topic.publishers}
    if "" in mismatches:
        return f"{text}: compatible; nothing is sent, or the network loses it"
    return f"{text}: incompatible ({'; '.join(sorted(mismatches))})"


def _qos_of(publishers: Sequence[Endpoint]) -> str:
    return " / ".join(dict.fromkeys(publisher.qos for publisher in publishers))


def _in_order(camera: CameraSnapshot) -> str:
    rates = f"{camera.input_rate_hz:.1f} Hz in, {camera.output_rate_hz:.1f} Hz out"
    if camera.skip:
        return f"{rates}: {camera.skip}"
    return f"{rates}, latency p50 {camera.latency_s.p50_s:.3f} s" if camera.latency_s else rates


def _camera_values(camera: CameraSnapshot, topic: InputTopic | None, node: NodeSnapshot) -> dict[str, str]:
    values = {
        "input rate (Hz)": f"{camera.input_rate_hz:.2f}",
        "output rate (Hz)": f"{camera.output_rate_hz:.2f}",
        "age of the newest input (s)": "none yet" if camera.input_age_s is None else f"{camera.input_age_s:.3f}",
        **_timing("processing time", camera.processing_s),
        **_timing("latency", camera.latency_s),
        "latency clock": "simulated" if node.simulated_time else "system",
        "consecutive late images": str(camera.late_in_a_row),
        "tracks": ", ".join(f"{count} {state}" for state, count in sorted(camera.tracks.items())) or "none",
        "mask fraction": "none yet" if camera.mask_fraction is None else f"{camera.mask_fraction:.4f}",
        "health": _health_of(camera),
        **{name: str(camera.counts.get(name, 0)) for name in _ALWAYS_COUNTED},
        **{name: str(count) for name, count in sorted(camera.counts.items()) if name not in _ALWAYS_COUNTED},
    }
    if topic is not None:
        values |= {
            "topic": topic.name,
            "subscription QoS": topic.qos,
            "publishers": str(len(topic.publishers)),
            "publisher QoS": _qos_of(topic.publishers) or "none",
        }
    return values


def _health_of(camera: CameraSnapshot) -> str:
    if camera.health is None:
        return "not judged"
    return camera.health.summary


def _timing(name: str, percentiles: Percentiles | None) -> dict[str, str]:
    p50, p99 = ("unknown", "unknown") if percentiles is None else (f"{value:.4f}" for value in percentiles)
    return {f"{name} p50 (s)": p50, f"{name} p99 (s)": p99}
