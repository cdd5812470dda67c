"""Pictures of a frame for the report: image, ground truth and scores, small enough to send by mail.

The page colours scores itself, so that a reader can choose the threshold and the score.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import ANOMALOUS, VOID

_WIDTH_PX = 480
_JPEG_QUALITY = 78
_LARGEST_LOGIT = 16.0  # a probability of 1 − 1e-7


@dataclass(frozen=True)
class Panel:
    """The pictures of a frame, all of the same size, encoded.

    ``image``: JPEG; ``levels``: of each score, from :func:`levels_thumbnail`; ``truth``: PNG of labels; None if the
    frame has none.
    """

    image: bytes
    levels: dict[str, bytes]
    truth: bytes | None


def image_thumbnail(image_rgb: NDArray[np.uint8]) -> bytes:
    """Encode an image, (H, W, 3) uint8, as a small JPEG."""
    return _encode(".jpg", _shrink(image_rgb)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def levels_thumbnail(probability: NDArray[np.float32]) -> bytes:
    """Encode a probability, (H, W) float32 in [0, 1], in 8 bits.

    A pixel is the largest value of its part of the image: what lies above a threshold in the image does so in the
    thumbnail, however small. Levels are steps of the logit, as thresholds of calibrated scores are close to 0.

    Returns:
        the logits of levels 0 and 255, little-endian float32 each, and a PNG of levels.
    """
    largest = _largest(probability).astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(largest / (1 - largest)), -_LARGEST_LOGIT, _LARGEST_LOGIT)
    low, high = float(logits.min()), float(logits.max())
    levels = np.rint(255 * (logits - low) / max(high - low, 1e-6)).astype(np.uint8)
    return struct.pack("<ff", low, high) + _encode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 6])


def labels_thumbnail(labels: NDArray[np.uint8]) -> bytes:
    """Encode labels, (H, W) of 0, 1 or 255, as a small PNG that keeps even single anomalous pixels."""
    small = cv2.resize(labels, _small_wh(labels.shape), interpolation=cv2.INTER_NEAREST)
    small = np.where(small == VOID, np.uint8(VOID), np.uint8(0))
    small[_largest((labels == ANOMALOUS).view(np.uint8)) > 0] = ANOMALOUS
    return _encode(".png", small, [cv2.IMWRITE_PNG_COMPRESSION, 6])


def _largest(array: NDArray[Any]) -> NDArray[Any]:
    """Shrink by the largest value of each part."""
    width, height = _small_wh(array.shape)
    rows = np.arange(height) * array.shape[0] // height
    columns = np.arange(width) * array.shape[1] // width
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(array, rows, axis=0), columns, axis=1))


def _shrink(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.resize(array, _small_wh(array.shape), interpolation=cv2.INTER_AREA))


def _small_wh(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, _WIDTH_PX / shape[1])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _encode(kind: str, pixels: NDArray[Any], settings: list[int]) -> bytes:
    return bytes(cv2.imencode(kind, np.ascontiguousarray(pixels), settings)[1])
