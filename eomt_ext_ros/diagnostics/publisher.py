"""The node's diagnostics, published once a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from eomt_ext_ros.diagnostics.status import Endpoint, InputTopic, NodeSnapshot, build_statuses, unknown_status
from eomt_ext_ros.diagnostics.throttled_log import in_brief
from eomt_ext_ros.parameters.node_config import DiagnosticsConfig

PERIOD_S = 1.0


class Diagnostics:
    """Publish a ``diagnostic_msgs/DiagnosticArray`` on ``/diagnostics`` at 1 Hz, in every state of the lifecycle.

    The timer runs on the steady clock, as sim time may stand still, and in the executor's thread. What occupies that
    thread for long, such as loading a model, must call :meth:`publish_when_due` every now and then: otherwise listeners
    would report the node as stale.

    Args:
        node: that publishes.
        observe: gives a snapshot of it and the limits in force; called in the executor's thread.
    """

    def __init__(self, node: Node, observe: Callable[[], tuple[NodeSnapshot, DiagnosticsConfig]]) -> None:
        self._node, self._observe = node, observe
        self._publisher: Any = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish_when_due(self) -> None:
        """Publish if it is time to, in the place of the timer; call it in the executor's thread."""
        if self._timer.is_ready():
            self._timer.reset()
            self._timer.callback()

    def publish(self) -> None:
        """Publish a snapshot of now; if that fails, publish the reason and raise it."""
        try:
            self._publish(build_statuses(*self._observe()))
        except Exception as error:
            self._publish([unknown_status(self._node.get_fully_qualified_name(), in_brief(error))])
            raise

    def _publish(self, statuses: list[DiagnosticStatus]) -> None:
        msg = DiagnosticArray(status=statuses)
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(msg)


def input_topic(node: Any, subscription: Any) -> InputTopic:
    """Describe a subscription and the publishers that the node sees on its topic."""
    ours, kind = subscription.qos_profile, type_name(subscription.msg_type)
    publishers = node.get_publishers_info_by_topic(subscription.topic_name)
    return InputTopic(
        subscription.topic_name,
        _in_words(ours),
        tuple(
            Endpoint(
                _in_words(each.qos_profile), _other_type(each.topic_type, kind) or _mismatch(each.qos_profile, ours)
            )
            for each in publishers
        ),
    )


def type_name(message: type) -> str:
    """Give the name of a message type in the ROS graph, such as ``sensor_msgs/msg/Image``."""
    return f"{message.__module__.partition('.')[0]}/msg/{message.__name__}"


def gpu_memory(facts: Mapping[str, str]) -> dict[str, str]:
    """Report what PyTorch holds of a GPU's memory, in MiB; empty if the engine runs on no GPU.

    The memory of another backend is unknown, and reported so. PyTorch's own counters are read and the driver is not
    called, so that any thread may ask.

    Args:
        facts: of the engine, as it describes itself.
    """
    device = facts.get("device", "")
    if not device.startswith("cuda"):
        return {}
    if (backend := facts.get("backend")) != "torch":
        return {"GPU memory": f"unknown: {backend} does not report it"}
    numbers_b = {
        "allocated": torch.cuda.memory_allocated(device),
        "allocated at most": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "total": torch.cuda.get_device_properties(device).total_memory,
    }
    return {f"GPU memory {name} (MiB)": f"{size_b / 2**20:.0f}" for name, size_b in numbers_b.items()}


def _in_words(qos: QoSProfile) -> str:
    return ", ".join(policy.name.lower().replace("_", " ") for policy in (qos.reliability, qos.durability))


def _other_type(publisher: str, subscription: str) -> str:
    return "" if publisher == subscription else f"{publisher} is published, and {subscription} subscribed to"


def _mismatch(publisher: QoSProfile, subscription: QoSProfile) -> str:
    verdict, reason = qos_check_compatible(publisher, subscription)
    if verdict != QoSCompatibility.ERROR:
        return ""
    errors = (part.strip() for part in reason.split(";") if part.strip().startswith("ERROR"))
    return ", ".join(part.removeprefix("ERROR:").strip() for part in errors)
