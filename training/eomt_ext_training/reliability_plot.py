"""A picture of reliability: for each bin of said probability, the share of pixels that are anomalous."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.evaluation import CalibrationResult
from eomt_ext_core.images import write_image

_SIDE, _LEFT, _TOP, _HISTOGRAM, _GAP = 420, 70, 60, 90, 30
_INK, _FAINT, _BAR, _GAP_COLOUR = (60, 50, 45), (215, 215, 215), (176, 114, 58), (110, 130, 230)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_reliability(before: CalibrationResult, after: CalibrationResult, path: Path) -> None:
    """Write a PNG with two diagrams side by side.

    Bars are shares of anomalous pixels; the red part is what lacks to, or exceeds, the diagonal, where said and true
    are the same. Below, how many pixels fall into each bin, on a logarithmic scale.
    """
    pictures = [
        _diagram(result, f"{name}: ECE {result.ece:.5f}") for name, result in (("before", before), ("after", after))
    ]
    write_image(path, np.hstack(pictures))


def _diagram(result: CalibrationResult, title: str) -> NDArray[np.uint8]:
    height = _TOP + _SIDE + _GAP + _HISTOGRAM + 50
    picture = np.full((height, _LEFT + _SIDE + 30, 3), 255, np.uint8)
    base = _TOP + _SIDE

    def x_of(share: float) -> int:
        return _LEFT + round(share * _SIDE)

    def y_of(share: float) -> int:
        return base - round(share * _SIDE)

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        cv2.line(picture, (_LEFT, y_of(tick)), (_LEFT + _SIDE, y_of(tick)), _FAINT, 1)
        _write(picture, f"{tick:g}", (_LEFT - 46, y_of(tick) + 5))
        _write(picture, f"{tick:g}", (x_of(tick) - 8, base + _GAP + _HISTOGRAM + 20))
    most = np.log10(max(*result.num_pixels, 10))
    bins = zip(result.bin_edges, result.bin_edges[1:], result.num_pixels, strict=False)
    for row, (low, high, count) in enumerate(bins):
        if not count:
            continue
        said, true = result.mean_probability[row], result.anomaly_fraction[row]
        left, right = x_of(low) + 1, x_of(high) - 1
        cv2.rectangle(picture, (left, y_of(true)), (right, base), _BAR, -1)
        cv2.rectangle(picture, (left, y_of(max(said, true))), (right, y_of(min(said, true))), _GAP_COLOUR, -1)
        bottom = base + _GAP + _HISTOGRAM
        cv2.rectangle(
            picture, (left, bottom - round(np.log10(count + 1) / most * _HISTOGRAM)), (right, bottom), _BAR, -1
        )
    cv2.line(picture, (x_of(0), y_of(0)), (x_of(1), y_of(1)), _INK, 1, cv2.LINE_AA)
    cv2.rectangle(picture, (_LEFT, _TOP), (_LEFT + _SIDE, base), _INK, 1)
    _write(picture, title, (_LEFT, _TOP - 22), 0.65)
    _write(picture, "share anomalous", (_LEFT + 8, _TOP + 20))
    _write(picture, "pixels (log), by said probability", (_LEFT + 8, base + _GAP - 8))
    return picture


def _write(picture: NDArray[np.uint8], text: str, corner: tuple[int, int], size: float = 0.45) -> None:
    cv2.putText(picture, text, corner, _FONT, size, _INK, 1, cv2.LINE_AA)
