"""What is known of the node at one moment, for its diagnostics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eomt_ext_core.config import EngineConfig
from eomt_ext_ros.diagnostics.camera_statistics import CameraSnapshot, CameraStatistics
from eomt_ext_ros.diagnostics.publisher import gpu_memory, input_topic
from eomt_ext_ros.diagnostics.reports import in_brief
from eomt_ext_ros.diagnostics.status import NodeSnapshot
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.settings import Settings

INFERENCE_ENDED = "the inference thread has ended, and no image is answered: clean the node up and configure it"
PICTURES_ENDED = "the thread that draws pictures has ended, and none is published: clean the node up and configure it"


class ObservedCamera(Protocol):
    """What is read of a camera."""

    subscriptions: list[Any]


class ObservedInference(Protocol):
    """What is read of the calls of the engine."""

    @property
    def failures(self) -> Mapping[str, Exception]:
        """By camera, why its last image has no frame."""

    def describe(self, config: EngineConfig) -> dict[str, str]:
        """The engine in words."""


class ObservedNode(Protocol):
    """What is read of the node, beside what it has as a node of ROS."""

    enabled: bool
    error: str
    settings: Settings

    @property
    def config(self) -> NodeConfig:
        """Settings of the node itself."""

    @property
    def state(self) -> str:
        """Of the lifecycle."""

    @property
    def cameras(self) -> Mapping[str, ObservedCamera]:
        """Those that are configured, by name."""

    @property
    def inference(self) -> ObservedInference | None:
        """Of the model in use, where there is one."""

    @property
    def is_inferring(self) -> bool:
        """Whether the inference thread is there."""

    @property
    def is_drawing(self) -> bool:
        """Whether the thread that draws pictures is there."""

    @property
    def inferring_for_s(self) -> float:
        """For how long the batch that is inferred has been, 0 where none is."""

    @property
    def failing_callbacks(self) -> str:
        """What each callback raised whose last call did not end in order, or empty."""

    def statistics_of(self, camera: str) -> CameraStatistics:
        """What became of the images of a camera."""

    def get_fully_qualified_name(self) -> str:
        """With its namespace."""

    def get_parameter(self, name: str) -> Any:
        """One of its parameters."""


def observe(node: ObservedNode) -> NodeSnapshot:
    """Look at the node, from the executor's thread."""
    inference = node.inference
    facts = {} if inference is None else inference.describe(node.config.engine)
    cameras = []
    for name in node.settings.cameras:
        subscriptions = node.cameras[name].subscriptions if name in node.cameras else []
        topic = input_topic(node, subscriptions[0]) if subscriptions else None
        cameras.append((node.statistics_of(name).snapshot(), topic))
    inference_error = _inference_error(node, [camera for camera, _ in cameras])
    return NodeSnapshot(
        name=node.get_fully_qualified_name(),
        state=node.state,
        enabled=node.enabled,
        least_period_s=node.config.least_period_s,
        error="; ".join(filter(None, (node.error or inference_error, node.failing_callbacks))),
        facts=facts,
        gpu_memory=gpu_memory(facts),
        simulated_time=node.get_parameter("use_sim_time").value,
        cameras=cameras,
    )


def _inference_error(node: ObservedNode, cameras: Sequence[CameraSnapshot]) -> str:
    inference = node.inference
    if inference is None:
        return ""
    if node.state in ("inactive", "active"):  # in a transition the threads end because they are told to
        if not node.is_inferring:
            return INFERENCE_ENDED
        if not node.is_drawing:
            return PICTURES_ENDED
    taken_s, hung_after_s = node.inferring_for_s, node.config.diagnostics.hung_after_s
    if taken_s > hung_after_s:
        return (
            f"inference has been at one batch for {taken_s:.1f} s, which is more than diagnostics.hung_after_s "
            f"({hung_after_s:g} s): if it never ends, restart the process"
        )
    failures, failing = inference.failures, defaultdict[str, list[str]](list)
    for camera in cameras:
        # Not where it is silent, or nobody reads an output of it any more: its own status goes on telling it.
        is_tried = not camera.skip and camera.waiting_s <= node.config.diagnostics.silent_after_s
        if is_tried and (error := failures.get(camera.name)) is not None:
            failing[in_brief(error)].append(camera.name)
    return "; ".join(f"inference fails{_for(names)}: {text}" for text, names in failing.items())


def _for(names: Sequence[str]) -> str:
    return f" for {', '.join(names)}" if any(names) else ""
