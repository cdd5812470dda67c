"""Pictures of an anomaly probability for people."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError, ImageError

COLOUR_MAPS = ("turbo", "inferno", "magma", "plasma", "viridis", "cividis", "hot", "bone")
CONTOUR_RGB = (255, 255, 255)
BOX_RGB = (255, 0, 255)  # in none of the colour maps


def heatmap(probability: NDArray[np.float32], colour_map: str = "turbo") -> NDArray[np.uint8]:
    """Colour a probability: (H, W) float32 in [0, 1] to (H, W, 3) uint8 RGB, over the fixed range from 0 to 1.

    ``colour_map`` is one of ``COLOUR_MAPS``, as OpenCV defines them; a ``ConfigError`` is raised where it is not.
    """
    return _coloured(_levels(probability), _colours_rgb(colour_map))


def overlay(
    image_rgb: NDArray[np.uint8],
    probability: NDArray[np.float32],
    mask: NDArray[np.bool_] | None = None,
    opacity: float = 0.75,
    *,
    colour_map: str = "turbo",
    boxes_xywh: Sequence[tuple[float, float, float, float]] = (),
) -> NDArray[np.uint8]:
    """Lay the heatmap over an image, the more opaque the more probable, with the outline of the mask and boxes.

    Args:
        image_rgb: (H, W, 3) uint8.
        probability: (H, W) float32 in [0, 1].
        mask: (H, W) bool to outline, or none.
        opacity: of the heatmap where the probability is 1, in [0, 1].
        colour_map: one of ``COLOUR_MAPS``.
        boxes_xywh: left, top, width and height in pixels of boxes to frame, each frame around its box.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: where the sizes differ.
        ConfigError: where there is no such colour map.
    """
    sizes = [array.shape[:2] for array in (image_rgb, probability, mask) if array is not None]
    if len(set(sizes)) > 1:
        given = ", ".join("×".join(map(str, size)) for size in sizes)
        raise ImageError(f"image, probability and mask must have one size, got {given}", reason="shape")
    levels = _levels(probability)
    heat, kept = _blending(colour_map, opacity)
    background = cv2.multiply(image_rgb, cv2.merge([cv2.LUT(levels, kept)] * 3), scale=1 / 255)
    blended = cv2.add(background, _coloured(levels, heat), dst=background)
    line_px = max(1, round(image_rgb.shape[0] / 360))
    if mask is not None:
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(blended, contours, -1, CONTOUR_RGB, line_px)
    for left, top, width, height in boxes_xywh:
        first = round(left) - line_px, round(top) - line_px
        last = round(left + width) - 1 + line_px, round(top + height) - 1 + line_px
        for inset in range(line_px):
            corners = (first[0] + inset, first[1] + inset), (last[0] - inset, last[1] - inset)
            cv2.rectangle(blended, *corners, BOX_RGB)
    return np.asarray(blended, dtype=np.uint8)


def _coloured(levels: NDArray[np.uint8], colours_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.applyColorMap(levels, colours_rgb[:, None]), dtype=np.uint8)


@functools.lru_cache(maxsize=8)
def _blending(colour_map: str, opacity: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For each level the colour that is added to an image, (256, 3), and what is kept of the image of 255, (256,)."""
    levels = np.arange(256, dtype=np.uint8)
    weights = np.repeat(levels, 3).reshape(256, 3)
    heat = cv2.multiply(_colours_rgb(colour_map), weights, scale=opacity / 255)
    return np.asarray(heat, dtype=np.uint8), np.uint8(255) - (levels * np.float32(opacity)).astype(np.uint8)


@functools.cache
def _colours_rgb(colour_map: str) -> NDArray[np.uint8]:
    """(256, 3), a colour for each level."""
    if colour_map not in COLOUR_MAPS:
        raise ConfigError(f"colour_map must be one of {', '.join(COLOUR_MAPS)}, got {colour_map!r}")
    levels = np.arange(256, dtype=np.uint8)[:, None]
    colours = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colour_map.upper()}"))[:, 0, ::-1].copy()
    colours.setflags(write=False)
    return np.asarray(colours, dtype=np.uint8)


def _levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(probability, alpha=255), dtype=np.uint8)
