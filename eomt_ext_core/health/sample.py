"""What a judgement is made of: 64 pairs of rows of an image, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 64, 96
_FINE = 480
_COARSE = COLUMNS // 4, ROWS // 4
_STEP, _LARGE_STEP = 1, 32  # of _FINE


@dataclass(frozen=True)
class Sample:
    """A few numbers of an image, the same for every size.

    Attributes:
        lines: (64, W) uint8 luma of evenly spaced rows, as they are: with the noise of the sensor.
        tiles: (64, 96) float32, the luma averaged along the rows.
        colours: (64, 96, 3) float32, likewise.
        coarse: (16, 24, 3) float32, the colours averaged.
        fine_contrast, large_contrast: mean squared difference of pixels 1/480 and 1/15 of the width apart, without the
            part that noise has in it: products of differences in two rows, whose noise is independent.
    """

    lines: NDArray[np.uint8]
    tiles: NDArray[np.float32]
    colours: NDArray[np.float32]
    coarse: NDArray[np.float32]
    fine_contrast: float
    large_contrast: float


def take_sample(image_rgb: NDArray[np.uint8]) -> Sample:
    """Sample an image, (H, W, 3) uint8."""
    height = image_rgb.shape[0]
    rows = np.arange(ROWS) * height // ROWS
    picked = image_rgb[rows]
    lines = _luma(picked)
    below = _luma(image_rgb[np.minimum(rows + 2, height - 1)])
    fine, fine_below = (_resized(each, (_FINE, ROWS)).astype(np.float32) for each in (lines, below))
    colours = _resized(picked, (COLUMNS, ROWS)).astype(np.float32)
    return Sample(
        lines=lines,
        tiles=_resized(lines, (COLUMNS, ROWS)).astype(np.float32),
        colours=colours,
        coarse=np.asarray(cv2.resize(colours, _COARSE, interpolation=cv2.INTER_AREA), dtype=np.float32),
        fine_contrast=_contrast(fine, fine_below, _STEP),
        large_contrast=_contrast(fine, fine_below, _LARGE_STEP),
    )


def _luma(pixels_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels_rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _resized(array: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(array, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _contrast(fine: NDArray[np.float32], below: NDArray[np.float32], step: int) -> float:
    return float(np.mean((fine[:, step:] - fine[:, :-step]) * (below[:, step:] - below[:, :-step])))
