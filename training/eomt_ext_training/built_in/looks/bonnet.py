"""The own vehicle at the lower border: a bonnet or a dashboard that mirrors the sky. It is a known thing, a car."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_core.scenes.canvas import CAR
from eomt_ext_core.scenes.textures import any_colour

Image = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Bonnet:
    """How often the own vehicle is in view, and how much of it."""

    probability: float = option(0.25, "fraction of the windows with one", minimum=0.0, maximum=1.0)
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
    if rng.random() < 0.3:  # an ornament on its nose
        centre = (int(width * rng.uniform(0.35, 0.65)), int(height * (float(top.min()) - rng.uniform(-0.01, 0.02))))
        cv2.circle(
            cover, centre, int(height * rng.uniform(0.012, 0.035)), 255, int(rng.integers(-1, 3)) or 1, cv2.LINE_AA
        )
    # paint that mirrors what is above it, upside down and stretched
    rows = np.clip(np.linspace(0.6, 0.0, height) * height, 0, height - 1).astype(int)
    mirror = np.asarray(cv2.blur(image_rgb[rows], (25, 9)), np.float32)
    paint = np.asarray(any_colour(rng), np.float32) * np.linspace(1.0, rng.uniform(0.4, 1.2), height)[:, None, None]
    paint = paint + (mirror - paint) * np.float32(rng.uniform(0.0, 0.6))
    paint *= np.float32(np.clip(image_rgb.mean() / max(float(paint.mean()), 8.0), 0.2, 1.5))
    weight = (cover.astype(np.float32) / 255)[..., None]
    image = np.asarray(np.clip(image_rgb + (paint - image_rgb) * weight, 0, 255), np.uint8)
    return image, np.where(cover > 127, np.uint8(CAR), semantic)
