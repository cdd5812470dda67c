"""An image on its way from its message to its outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import ImageError
from eomt_ext_ros.outputs.registry import Output
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
    """

    camera: Camera
    header: Any
    pixels_rgb: NDArray[np.uint8]
    outputs: tuple[Output, ...]
    started_s: float
    withheld: set[str] = field(default_factory=set)

    @cached_property
    def needs(self) -> frozenset[str]:
        """What has to be computed for its outputs."""
        return frozenset[str]().union(*(output.needs for output in self.outputs))

    def needs_semantic(self, region: str) -> bool:
        """Whether the semantic classes are needed, as an output or for the region of obstacles."""
        return "semantic" in self.needs or (region == "drivable" and "obstacles" in self.needs)


def decoded(camera: Camera, msg: Any, outputs: tuple[Output, ...], started_s: float) -> CameraImage:
    """Decode an image message.

    Raises:
        ImageError: if it cannot be used, or is stale.
    """
    pixels_rgb = camera.decode(msg)
    if not camera.stamps.accept(stamp_ns(msg.header.stamp)):
        raise ImageError("an image must be newer than the last one, got an older or equal stamp", "stale")
    return CameraImage(camera, msg.header, pixels_rgb, outputs, started_s)
