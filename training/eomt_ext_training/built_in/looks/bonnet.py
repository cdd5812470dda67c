"""The ego vehicle at the lower border: a bonnet or a dashboard that reflects the sky. Its class is that of a car."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_core.scenes.drawing.canvas import CAR
from eomt_ext_core.scenes.drawing.textures import any_colour

Image = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Bonnet:
    """Probability and size of the visible part of the ego vehicle."""

    probability: float = option(0.35, "fraction of the windows with one", minimum=0.0, maximum=1.0)
    highest: float = option(0.2, "largest fraction of the window's height that it covers", minimum=0.01, maximum=0.5)

    def __post_init__(self) -> None:
        check_options(self)


def with_bonnet(image_rgb: Image, semantic: Image, bonnet: Bonnet, rng: Rng) -> tuple[Image, Image]:
    """Lay the own vehicle over the lower border of a window.

    Args:
        image_rgb: (h, w, 3).
        semantic: (h, w) class ids.
        bonnet: how often and how high.
        rng: random numbers.

    Returns:
        the changed image, and class ids in which the own vehicle is a car.
    """
    if rng.random() >= bonnet.probability:
        return image_rgb, semantic
    height, width = semantic.shape
    x = np.linspace(-0.1, 1.1, 25)
    flatness, tilt = rng.uniform(0.1, 1.5), rng.normal(0, 0.1)
    top = 1 - rng.uniform(0.03, bonnet.highest) * np.clip(
        1 - flatness * (2 * x - 1) ** 2 + tilt * (2 * x - 1), 0.05, 1.2
    )
    outline = np.concatenate(
        [np.stack([x * width, top * height], -1), [(1.2 * width, 1.2 * height), (-9, 1.2 * height)]]
    )
    cover: Image = np.zeros((height, width), np.uint8)
    cv2.fillPoly(cover, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    # paint that mirrors what is above it, upside down and stretched
    rows = np.clip(np.linspace(rng.uniform(0.3, 0.9), 0.0, height) * height, 0, height - 1).astype(int)
    reach = (int(rng.integers(3, 30)), int(rng.integers(1, 9)))
    mirror = np.asarray(cv2.blur(image_rgb[rows], reach), np.float32)
    paint = np.asarray(any_colour(rng), np.float32) * np.linspace(1.0, rng.uniform(0.4, 1.2), height)[:, None, None]
    paint = paint + (mirror - paint) * np.float32(rng.uniform(0.0, 0.85))
    paint *= np.float32(np.clip(image_rgb.mean() / max(float(paint.mean()), 8.0), 0.2, 1.5))
    if rng.random() < 0.6:
        _ornament(cover, paint, float(top.min()), rng)
    weight = (cover.astype(np.float32) / 255)[..., None]
    image = np.asarray(np.clip(image_rgb + (paint - image_rgb) * weight, 0, 255), np.uint8)
    return image, np.where(cover > 127, np.uint8(CAR), semantic)


def _ornament(cover: Image, paint: NDArray[np.float32], top: float, rng: Rng) -> None:
    """Stand a maker's sign on the nose: a ring or a disc, on a stalk or on the paint, of metal."""
    height, width = cover.shape
    radius = max(2, round(height * rng.uniform(0.012, 0.045)))
    centre = (round(width * rng.uniform(0.3, 0.7)), round(height * top - radius * rng.uniform(-1.0, 3.5)))
    thickness = int(rng.choice([-1, 1, 2]))
    sign: Image = np.zeros_like(cover)
    cv2.circle(sign, centre, radius, 255, thickness, cv2.LINE_AA)
    foot = (centre[0], round(height * (top + 0.03)))
    cv2.line(sign, (centre[0], centre[1] + radius), foot, 255, 1, cv2.LINE_AA)
    for turn in rng.uniform(0, 2 * np.pi, int(rng.integers(0, 4))):
        end = (round(centre[0] + radius * np.cos(turn)), round(centre[1] + radius * np.sin(turn)))
        cv2.line(sign, centre, end, 255, 1, cv2.LINE_AA)
    np.maximum(cover, sign, out=cover)
    paint[sign > 60] = rng.uniform(20, 250)
