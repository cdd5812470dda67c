"""Visualisations of an anomaly probability."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError, ImageError

COLOUR_MAPS = ("turbo", "inferno", "magma", "plasma", "viridis", "cividis", "hot", "bone")
CONTOUR_RGB = (255, 255, 255)
BOX_RGB = (255, 0, 255)  # in none of the colour maps

_Corners = tuple[int, int, int, int]


def heatmap(probability: NDArray[np.float32], colour_map: str = "turbo") -> NDArray[np.uint8]:
    """Colour a probability, (H, W) float32 in [0, 1], as (H, W, 3) uint8 RGB, over the fixed range from 0 to 1.

    ``colour_map`` is one of ``COLOUR_MAPS`` of OpenCV. Raises ``ConfigError`` for any other.
    """
    return coloured(np.asarray(cv2.convertScaleAbs(probability, alpha=255), np.uint8), colour_map)


def coloured(levels: NDArray[np.uint8], colour_map: str) -> NDArray[np.uint8]:
    """The same of a probability of 8 bits, (H, W) uint8, 255 where it is 1."""
    return np.asarray(cv2.applyColorMap(levels, colours_rgb(colour_map)[:, None]), dtype=np.uint8)


def overlay(
    image_rgb: NDArray[np.uint8],
    probability: NDArray[np.float32],
    mask: NDArray[np.bool_] | None = None,
    opacity: float = 0.75,
    *,
    colour_map: str = "turbo",
    boxes_xywh: Sequence[tuple[float, float, float, float]] = (),
    labels: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Blend the heatmap over an image in proportion to the probability, and draw the outline of the mask and boxes.

    Args:
        image_rgb: (H, W, 3) uint8.
        probability: (H, W) float32 in [0, 1].
        mask: (H, W) bool to outline, or None.
        opacity: of the heatmap at a probability of 1, in [0, 1].
        colour_map: one of ``COLOUR_MAPS``.
        boxes_xywh: left, top, width and height in pixels of boxes to frame, each frame around its box.
        labels: of the boxes, in ASCII, to write above each, or below it if another label is there; none, or one for
            each.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: if the sizes differ.
        ConfigError: if the colour map is unknown.
    """
    _check_sizes(image=image_rgb, probability=probability, mask=mask)
    blended_rgb = blend(image_rgb, heatmap(probability, colour_map), probability, opacity)
    outline(blended_rgb, mask, boxes_xywh, labels)
    return blended_rgb


def blend(
    image_rgb: NDArray[np.uint8], heatmap_rgb: NDArray[np.uint8], probability: NDArray[np.float32], opacity: float
) -> NDArray[np.uint8]:
    """Blend a heatmap over an image, with an opacity of ``opacity`` times the probability.

    Args:
        image_rgb, heatmap_rgb: (H, W, 3) uint8.
        probability: (H, W) float32 in [0, 1].
        opacity: in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: if the sizes differ.
    """
    _check_sizes(image=image_rgb, heatmap=heatmap_rgb, probability=probability)
    covered = cv2.cvtColor(cv2.convertScaleAbs(probability, alpha=255 * opacity), cv2.COLOR_GRAY2RGB)
    heat = cv2.multiply(heatmap_rgb, covered, scale=1 / 255)
    kept = cv2.bitwise_not(covered, dst=covered)
    background = cv2.multiply(image_rgb, kept, dst=kept, scale=1 / 255)
    return np.asarray(cv2.add(background, heat, dst=heat), dtype=np.uint8)


def outline(
    image_rgb: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    boxes_xywh: Sequence[tuple[float, float, float, float]] = (),
    labels: Sequence[str] = (),
) -> None:
    """Draw the outline of a mask and frames around boxes with labels into an image, as in :func:`overlay`.

    Raises:
        ImageError: if the sizes differ.
    """
    line_px = max(1, round(image_rgb.shape[0] / 360))
    if mask is not None:
        _check_sizes(image=image_rgb, mask=mask)
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(image_rgb, contours, -1, CONTOUR_RGB, line_px)
    written: list[_Corners] = []
    for number, (left, top, width, height) in enumerate(boxes_xywh):
        first = round(left) - line_px, round(top) - line_px
        last = round(left + width) - 1 + line_px, round(top + height) - 1 + line_px
        for inset in range(line_px):
            corners = (first[0] + inset, first[1] + inset), (last[0] - inset, last[1] - inset)
            cv2.rectangle(image_rgb, *corners, BOX_RGB)
        if labels and labels[number]:
            written.append(_write(image_rgb, labels[number], first, last[1], line_px, written))


def _write(
    image_rgb: NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    bottom: int,
    line_px: int,
    written: Sequence[_Corners],
) -> _Corners:
    """Write above a box, or below it if something ``written`` is in the way; inside the image in any case.

    Returns:
        Left, top, right and bottom of the label.
    """
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line_px
    (width, height), below = cv2.getTextSize(text, font, size, line_px)
    left = min(max(corner[0], 0), max(0, image_rgb.shape[1] - width))
    lowest = image_rgb.shape[0] - below
    feet = (max(min(foot, lowest), height) for foot in (corner[1] - below, bottom + 1 + height))
    places = [(left, foot - height, left + width, foot + below - 1) for foot in feet]
    place = next((place for place in places if not any(_overlap(place, other) for other in written)), places[0])
    cv2.rectangle(image_rgb, place[:2], place[2:], BOX_RGB, cv2.FILLED)
    cv2.putText(image_rgb, text, (left, place[1] + height), font, size, CONTOUR_RGB, line_px, cv2.LINE_AA)
    return place


def _overlap(one: _Corners, other: _Corners) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _check_sizes(**arrays: NDArray[Any] | None) -> None:
    sizes = {name: array.shape[:2] for name, array in arrays.items() if array is not None}
    if len(set(sizes.values())) > 1:
        given = ", ".join("×".join(map(str, size)) for size in sizes.values())
        raise ImageError(f"{' and '.join(sizes)} must have the same size, got {given}", reason="shape")


@functools.cache
def colours_rgb(colour_map: str) -> NDArray[np.uint8]:
    """Return the colours of all levels, (256, 3)."""
    if colour_map not in COLOUR_MAPS:
        raise ConfigError(f"colour_map must be one of {', '.join(COLOUR_MAPS)}, got {colour_map!r}")
    levels = np.arange(256, dtype=np.uint8)[:, None]
    colours = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colour_map.upper()}"))[:, 0, ::-1].copy()
    colours.setflags(write=False)
    return np.asarray(colours, dtype=np.uint8)
