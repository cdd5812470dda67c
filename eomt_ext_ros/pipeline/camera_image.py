"""An image on its way from its message to its outputs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import ImageError
from eomt_ext_core.engine.frame import Part
from eomt_ext_ros.outputs.registry import Output
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.pipeline.camera import Camera, stamp_ns


@dataclass
class CameraImage:
    """An image, and the outputs that are subscribed to.

    Attributes:
        camera: that sent it.
        header: of its message.
        pixels_rgb: (H, W, 3) uint8.
        outputs: to be published of it, in the order of the registry.
        started_s: when its batch began, on the steady clock.
        withheld: names of outputs that are subscribed to and not published of it.
        why_not: why there are no outputs, or some are withheld, or empty.
    """

    camera: Camera
    header: Any
    pixels_rgb: NDArray[np.uint8]
    outputs: tuple[Output, ...]
    started_s: float
    withheld: set[str] = field(default_factory=set)
    why_not: str = ""

    @property
    def taken_s(self) -> float:
        """How long ago its batch began."""
        return time.monotonic() - self.started_s

    @cached_property
    def needs(self) -> frozenset[str]:
        """What has to be computed for its outputs."""
        return frozenset[str]().union(*(output.needs for output in self.outputs))

    def parts(self, config: NodeConfig) -> frozenset[Part]:
        """What its outputs show of a frame; a smaller image is averaged from the probability itself."""
        parts = set[Part]()
        is_smaller = config.publish_scale < 1
        if not self.needs.isdisjoint({"probability", "obstacles"}) or ("confidence" in self.needs and is_smaller):
            parts.add("probability")
        elif "confidence" in self.needs:
            parts.add("confidence")
        if "semantic" in self.needs or (config.obstacles.region == "drivable" and "obstacles" in self.needs):
            parts.add("semantic")
        return frozenset(parts)


def decoded(camera: Camera, msg: Any, outputs: tuple[Output, ...], started_s: float) -> CameraImage:
    """Decode an image message.

    Raises:
        ImageError: if it cannot be used, or is stale.
    """
    pixels_rgb = camera.decode(msg)
    if not camera.stamps.accept(stamp_ns(msg.header.stamp)):
        raise ImageError("an image must be newer than the last one, got an older or equal stamp", "stale")
    return CameraImage(camera, msg.header, pixels_rgb, outputs, started_s)
