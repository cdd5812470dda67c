"""The images that the node publishes, each rendered when somebody asks for it; needs no ROS."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame
from eomt_ext_core.obstacles import ObstacleFrame
from eomt_ext_core.visualization import blend, heatmap, outline
from eomt_ext_ros.parameters.node_config import NodeConfig

DATA_IMAGES = ("probability", "mask", "semantic")
PICTURES = ("heatmap", "overlay")  # for people
IMAGE_OUTPUTS = (*DATA_IMAGES, *PICTURES)


def scaled_hw(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size in which an image is published, at least one pixel a side.

    >>> scaled_hw((1080, 1920), 0.5), scaled_hw((3, 3), 0.05)
    ((540, 960), (1, 1))
    """
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


class Rendering:
    """The output images of one camera image, in the size that ``publish_scale`` says.

    Colours and probabilities are averaged over the area of the smaller pixels. A pixel of the mask is set where any of
    the pixels that it covers is: an obstacle may grow by less than a pixel and is never lost. Class ids are those of
    the nearest pixel, as they cannot be averaged.

    Args:
        image_rgb: (H, W, 3) uint8.
        frame: what the engine says of it.
        found: the obstacles in it.
        config: the node's.

    Attributes:
        found: the obstacles.
        scale_xy: width and height of the published images as shares of the camera's.
    """

    def __init__(
        self, image_rgb: NDArray[np.uint8], frame: AnomalyFrame, found: ObstacleFrame, config: NodeConfig
    ) -> None:
        self._image_rgb, self._frame, self.found, self._config = image_rgb, frame, found, config
        height, width = frame.probability.shape
        self._size_hw = scaled_hw((height, width), config.publish_scale)
        self.scale_xy = self._size_hw[1] / width, self._size_hw[0] / height

    def image(self, name: str) -> tuple[NDArray[Any], str]:
        """One of ``IMAGE_OUTPUTS`` and its encoding."""
        renderers: dict[str, Callable[[], tuple[NDArray[Any], str]]] = {
            "probability": lambda: (self._probability, "32FC1"),
            "mask": lambda: (self._mask.view(np.uint8) * np.uint8(255), "mono8"),
            "heatmap": lambda: (self._heatmap, "rgb8"),
            "overlay": lambda: (self._overlay(), "rgb8"),
            "semantic": lambda: (self._semantic(), "mono8"),
        }
        return renderers[name]()

    @cached_property
    def _probability(self) -> NDArray[np.float32]:
        probability: NDArray[np.float32] = self._resized(self._frame.probability, cv2.INTER_AREA)
        return probability

    @cached_property
    def _mask(self) -> NDArray[np.bool_]:
        if self.found.mask.shape == self._size_hw:
            return self.found.mask
        covered = self._resized(self.found.mask.astype(np.float32), cv2.INTER_AREA)  # uint8 would round slivers away
        return np.asarray(covered > 0)

    @cached_property
    def _heatmap(self) -> NDArray[np.uint8]:
        return heatmap(self._probability, self._config.colour_map)

    def _overlay(self) -> NDArray[np.uint8]:
        image_rgb = self._resized(self._image_rgb, cv2.INTER_AREA)
        picture_rgb = blend(image_rgb, self._heatmap, self._probability, self._config.overlay_opacity)
        (x, y), boxes = self.scale_xy, [obstacle.box_xywh for obstacle in self.found.obstacles]
        boxes_xywh = [(left * x, top * y, width * x, height * y) for left, top, width, height in boxes]
        outline(picture_rgb, self._mask, boxes_xywh)
        return picture_rgb

    def _semantic(self) -> NDArray[np.uint8]:
        assert self._frame.semantic is not None, "the engine was asked for it"
        semantic: NDArray[np.uint8] = self._resized(self._frame.semantic, cv2.INTER_NEAREST)
        return semantic

    def _resized(self, array: NDArray[Any], interpolation: int) -> NDArray[Any]:
        if array.shape[:2] == self._size_hw:
            return array
        return np.asarray(cv2.resize(array, self._size_hw[::-1], interpolation=interpolation), dtype=array.dtype)
