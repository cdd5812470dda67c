"""A snapshot of the node for its diagnostics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eomt_ext_ros.diagnostics.camera_statistics import CameraSnapshot, CameraStatistics
from eomt_ext_ros.diagnostics.publisher import gpu_memory, input_topic
from eomt_ext_ros.diagnostics.status import NodeSnapshot
from eomt_ext_ros.diagnostics.throttled_log import in_brief
from eomt_ext_ros.parameters.settings import Settings

INFERENCE_ENDED = "inference thread died; images are not processed. Run cleanup, then configure."


class ObservedSession(Protocol):
    """What is read of what the node has while it is configured."""

    @property
    def cameras(self) -> Mapping[str, ObservedCamera]:
        """By name."""

    @property
    def failures(self) -> Mapping[str, Exception]:
        """By camera, why its last image was not inferred."""

    @property
    def is_inferring(self) -> bool:
        """Whether the inference thread has not ended."""

    @property
    def processing_for_s(self) -> float:
        """For how long the present batch has been processed, 0 if there is none."""

    def describe(self) -> dict[str, str]:
        """Describe the model; empty until it is loaded."""


class ObservedCamera(Protocol):
    """What is read of a camera."""

    subscriptions: list[Any]


class ObservedNode(Protocol):
    """What is read of the node."""

    error: str
    settings: Settings

    @property
    def state(self) -> str:
        """Of the lifecycle."""

    @property
    def enabled(self) -> bool:
        """Whether an active node processes images."""

    @property
    def session(self) -> ObservedSession | None:
        """What it has while it is configured."""

    @property
    def failing_callbacks(self) -> str:
        """What each callback raised whose last call did not end in order, or empty."""

    def statistics_of(self, camera: str) -> CameraStatistics:
        """What became of the images of a camera."""

    def get_fully_qualified_name(self) -> str:
        """As every node of ROS."""

    def get_parameter(self, name: str) -> Any:
        """As every node of ROS."""


def observe(node: ObservedNode) -> NodeSnapshot:
    """Take a snapshot of the node, in the executor's thread."""
    session = node.session
    facts = {} if session is None else session.describe()
    cameras = []
    for name in node.settings.cameras:
        subscriptions = [] if session is None or name not in session.cameras else session.cameras[name].subscriptions
        topic = input_topic(node, subscriptions[0]) if subscriptions else None
        cameras.append((node.statistics_of(name).snapshot(), topic))
    inference_error = _inference_error(node, [camera for camera, _ in cameras])
    return NodeSnapshot(
        name=node.get_fully_qualified_name(),
        state=node.state,
        enabled=node.enabled,
        least_period_s=node.settings.node.least_period_s,
        error="; ".join(filter(None, (node.error or inference_error, node.failing_callbacks))),
        facts=facts,
        gpu_memory=gpu_memory(facts),
        simulated_time=node.get_parameter("use_sim_time").value,
        cameras=cameras,
    )


def _inference_error(node: ObservedNode, cameras: Sequence[CameraSnapshot]) -> str:
    session, limits = node.session, node.settings.node.diagnostics
    if session is None:
        return ""
    if node.state in ("inactive", "active") and not session.is_inferring:  # in a transition it ends as it is told to
        return INFERENCE_ENDED
    if session.processing_for_s > limits.hung_after_s:
        return (
            f"inference has processed one batch for {session.processing_for_s:.1f} s, longer than "
            f"diagnostics.hung_after_s ({limits.hung_after_s:g} s); if it never ends, restart the process"
        )
    failures, failing = session.failures, defaultdict[str, list[str]](list)
    for camera in cameras:
        # Not if it is silent, or nobody reads an output of it any more: its own status goes on reporting it.
        is_tried = not camera.skip and camera.waiting_s <= limits.silent_after_s
        if is_tried and (error := failures.get(camera.name)) is not None:
            failing[in_brief(error)].append(camera.name)
    return "; ".join(f"inference fails{_for(names)}: {text}" for text, names in failing.items())


def _for(names: Sequence[str]) -> str:
    return f" for {', '.join(names)}" if any(names) else ""
