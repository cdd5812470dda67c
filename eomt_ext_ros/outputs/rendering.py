"""The outputs of one image, each rendered when it is asked for; needs no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame
from eomt_ext_core.ground import GroundFrame, GroundView, scan
from eomt_ext_core.ground.contacts import Region
from eomt_ext_core.obstacles import ObstacleFrame
from eomt_ext_core.visualization import blend, coloured, outline

if TYPE_CHECKING:
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header


class RenderingConfig(Protocol):
    """The settings of the node that rendering reads."""

    @property
    def publish_scale(self) -> float:
        """Size of the published images, as a fraction of the camera's."""

    @property
    def colour_map(self) -> str:
        """Colours of the heatmap and the overlay."""

    @property
    def overlay_opacity(self) -> float:
        """Opacity of the heatmap where the probability is 1."""


def scaled_hw(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size in which an image is published, at least one pixel a side.

    >>> scaled_hw((1080, 1920), 0.5), scaled_hw((3, 3), 0.05)
    ((540, 960), (1, 1))
    """
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


@dataclass(frozen=True)
class OnGround:
    """The obstacles of an image on the ground.

    Attributes:
        frame: they themselves.
        view: of the camera.
        free: the region that is known to be ground; None: everywhere.
        header: of what is published of them: the image's stamp, the frame that they are located in.
    """

    frame: GroundFrame
    view: GroundView
    free: Region | None
    header: Header


class Rendering:
    """What the outputs of one image are made of, in the size that ``publish_scale`` says.

    Colours and probabilities are averaged over the area of the smaller pixels. A pixel of the mask is set where any of
    the pixels that it covers is: an obstacle may grow by less than a pixel and is never lost. Class ids are those of
    the nearest pixel, as they cannot be averaged.

    Args:
        image_rgb: (H, W, 3) uint8.
        frame: what the engine found in it; None if no output needs inference.
        found: the obstacles in it, or only the engine's mask if no output shows them.
        config: how it is rendered.
        header: of the image's message; messages need it, pixels do not.
        camera_info: the calibration that came in last, or None.
        on_ground: the obstacles on the ground; None if no output shows them, or they cannot be located.

    Attributes:
        size_hw: of the image.
        published_hw: of the published images.
        scale_xy: width and height of the published images as fractions of the camera's.
    """

    def __init__(
        self,
        image_rgb: NDArray[np.uint8],
        frame: AnomalyFrame | None,
        found: ObstacleFrame | None,
        config: RenderingConfig,
        *,
        header: Header | None = None,
        camera_info: CameraInfo | None = None,
        on_ground: OnGround | None = None,
    ) -> None:
        self._image_rgb, self._frame, self._found, self._config = image_rgb, frame, found, config
        self.header, self.camera_info, self._on_ground = header, camera_info, on_ground
        self.size_hw = height, width = image_rgb.shape[0], image_rgb.shape[1]
        self.published_hw = scaled_hw(self.size_hw, config.publish_scale)
        self.scale_xy = self.published_hw[1] / width, self.published_hw[0] / height

    @property
    def found(self) -> ObstacleFrame:
        """The obstacles, in pixels of the camera's image."""
        assert self._found is not None, "obstacles need inference"
        return self._found

    @property
    def on_ground(self) -> OnGround:
        """The obstacles on the ground."""
        assert self._on_ground is not None, "outputs of the ground are withheld without it"
        return self._on_ground

    @property
    def scan(self) -> NDArray[np.float32]:
        """Their ranges all around, as :func:`~eomt_ext_core.ground.scan` gives them."""
        return scan(self.on_ground.frame, self.found, self.on_ground.view, self.on_ground.free)

    @cached_property
    def probability(self) -> NDArray[np.float32]:
        """(h, w) float32 in [0, 1]."""
        assert self._frame is not None, "the probability needs inference"
        probability: NDArray[np.float32] = self._resized(self._frame.probability, cv2.INTER_AREA)
        return probability

    @cached_property
    def confidence(self) -> NDArray[np.uint8]:
        """The probability as (h, w) uint8, 255 where it is 1."""
        if self._frame is not None and self.published_hw == self.size_hw:
            return self._frame.confidence
        return np.asarray(cv2.convertScaleAbs(self.probability, alpha=255.0), np.uint8)

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(h, w) uint8, 0 or 255."""
        return np.multiply(self._mask.view(np.uint8), 255, dtype=np.uint8)

    @cached_property
    def heatmap(self) -> NDArray[np.uint8]:
        """The probability in colours, (h, w, 3) uint8."""
        return coloured(self.confidence, self._config.colour_map)

    @cached_property
    def overlay(self) -> NDArray[np.uint8]:
        """Heatmap and obstacles over the image, with ids and ranges as far as they are known, (h, w, 3) uint8."""
        image_rgb = self._resized(self._image_rgb, cv2.INTER_AREA)
        overlay_rgb = blend(image_rgb, self.heatmap, self.probability, self._config.overlay_opacity)
        (x, y), boxes = self.scale_xy, [obstacle.box_xywh for obstacle in self.found.listed]
        boxes_xywh = [(left * x, top * y, width * x, height * y) for left, top, width, height in boxes]
        outline(overlay_rgb, self._mask, boxes_xywh, self._labels)
        return overlay_rgb

    @property
    def semantic(self) -> NDArray[np.uint8]:
        """Ids of the semantic classes, (h, w) uint8."""
        assert self._frame is not None, "semantic classes need inference"
        assert self._frame.semantic is not None, "the engine was asked for it"
        semantic: NDArray[np.uint8] = self._resized(self._frame.semantic, cv2.INTER_NEAREST)
        return semantic

    @property
    def _labels(self) -> list[str]:
        """Of the listed obstacles: the track, and the range if it is located."""
        located = [] if self._on_ground is None else self._on_ground.frame.obstacles
        ranges = {id(each.obstacle): f"{each.range_m:.1f} m" for each in located}
        return [f"{each.label} {ranges.get(id(each), '')}".strip() for each in self.found.listed]

    @cached_property
    def _mask(self) -> NDArray[np.bool_]:
        if self.found.mask.shape == self.published_hw:
            return self.found.mask
        covered = self._resized(self.found.mask.astype(np.float32), cv2.INTER_AREA)  # uint8 would round slivers away
        return np.asarray(covered > 0)

    def _resized(self, array: NDArray[Any], interpolation: int) -> NDArray[Any]:
        if array.shape[:2] == self.published_hw:
            return array
        return np.asarray(cv2.resize(array, self.published_hw[::-1], interpolation=interpolation), dtype=array.dtype)
