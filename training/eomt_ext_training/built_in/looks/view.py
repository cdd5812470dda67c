"""Random views of a drawn scene: zoomed in, complete, or farther away than it was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_training.data.sample import VOID

Image = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Zoom:
    """Variation of views. At scale 1 the scene just fills the window; below 1, its mirrored border fills the margin."""

    smallest: float = option(0.7, "scale of the widest view", minimum=0.3, maximum=1.0)
    largest: float = option(2.0, "scale of the narrowest view", minimum=1.0, maximum=4.0)
    stretch: float = option(0.1, "deviation of the logarithm of width / height", minimum=0.0, maximum=0.5)
    roll_deg: float = option(1.5, "deviation of the roll, in degrees", minimum=0.0, maximum=20.0)
    waviness: float = option(
        0.02, "largest bend of straight edges, as a fraction of the height", minimum=0.0, maximum=0.2
    )
    whole: float = option(0.25, "fraction of the views that show the scene as it was drawn", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def zoomed(image_rgb: Image, semantic: Image, crop_hw: tuple[int, int], zoom: Zoom, rng: Rng) -> tuple[Image, Image]:
    """Cut a window out of a scene, half of the time mirrored.

    Args:
        image_rgb: (H, W, 3).
        semantic: (H, W) class ids.
        crop_hw: size of the window.
        zoom: how views vary.
        rng: random numbers.

    Returns:
        the window's image, (h, w, 3), and its class ids, (h, w): void beyond the scene.
    """
    height, width = crop_hw
    scale, stretch, roll = 1.0, 1.0, 0.0
    if rng.random() >= zoom.whole:
        # as often wider as narrower than the whole scene, but for the limits
        low, high = np.log(zoom.smallest), np.log(zoom.largest)
        scale = float(np.exp(np.clip(rng.normal(0.15, 0.35), low, high)))
        stretch, roll = float(np.exp(rng.normal(0, zoom.stretch))), float(rng.normal(0, zoom.roll_deg))
    factor = max(height / image_rgb.shape[0], width / image_rgb.shape[1]) * scale
    rows, columns = max(8, round(image_rgb.shape[0] * factor)), max(8, round(image_rgb.shape[1] * factor * stretch))
    # the antialiased resize first: the cut below samples points
    shrinks = rows < image_rgb.shape[0]
    image_rgb = np.asarray(
        cv2.resize(image_rgb, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )
    semantic = np.asarray(cv2.resize(semantic, (columns, rows), interpolation=cv2.INTER_NEAREST), np.uint8)
    # narrow views stay in the middle of the height, where the distant road is
    top, left = (rows - height) * rng.beta(3, 2), (columns - width) * rng.random()
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), roll, 1.0)
    matrix[:, 2] -= (left, top) if roll else (round(left), round(top))
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    image_rgb = np.asarray(
        cv2.warpAffine(image_rgb, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )
    semantic = np.asarray(
        cv2.warpAffine(
            semantic, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=VOID
        ),
        np.uint8,
    )
    if zoom.waviness and rng.random() < 0.5:
        image_rgb, semantic = _bent(image_rgb, semantic, float(rng.uniform(0, zoom.waviness)) * height, rng)
    return image_rgb, semantic


def _bent(image_rgb: Image, semantic: Image, reach_px: float, rng: Rng) -> tuple[Image, Image]:
    """Bend what is straight, by up to ``reach_px`` pixels."""
    height, width = semantic.shape
    cells = int(rng.integers(4, 24))
    coarse = rng.uniform(-reach_px, reach_px, (2, cells, 2 * cells)).astype(np.float32)
    move_x, move_y = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in coarse)
    x = np.arange(width, dtype=np.float32)[None, :] + move_x
    y = np.arange(height, dtype=np.float32)[:, None] + move_y
    bent = cv2.remap(image_rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    classes = cv2.remap(semantic, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=VOID)
    return np.asarray(bent, np.uint8), np.asarray(classes, np.uint8)
