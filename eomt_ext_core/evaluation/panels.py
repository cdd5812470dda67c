"""Thumbnails of a frame for the report: image, ground truth, heatmap and mask, small enough to send by mail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import ANOMALOUS, VOID
from eomt_ext_core.visualization import heatmap

_WIDTH_PX = 480
_JPEG_QUALITY = 78
_VOID_RGB, _NORMAL_RGB, _ANOMALOUS_RGB = (112, 116, 122), (24, 27, 34), (255, 176, 32)
_HIT_RGB, _FALSE_RGB, _MISSED_RGB = (64, 200, 120), (255, 96, 80), (72, 140, 255)


@dataclass(frozen=True)
class Panel:
    """The JPEG thumbnails of a frame, all of the same size; ``truth`` is None if the frame has no labels."""

    image: bytes
    heatmap: bytes
    truth: bytes | None
    mask: bytes


def image_thumbnail(image_rgb: NDArray[np.uint8]) -> bytes:
    """Encode an image, (H, W, 3) uint8, as a small JPEG."""
    return _encode(_shrink(image_rgb))


def heatmap_thumbnail(probability: NDArray[np.float32]) -> bytes:
    """Encode a probability, (H, W) float32 in [0, 1], as a small JPEG in the colours of the heatmap."""
    return _encode(heatmap(_shrink(probability)))


def labels_thumbnail(labels: NDArray[np.uint8]) -> bytes:
    """Encode labels, (H, W) of 0, 1 or 255, as a small JPEG that keeps even single anomalous pixels visible."""
    canvas = _canvas(labels)
    canvas[_shrink_mask(labels == ANOMALOUS)] = _ANOMALOUS_RGB
    return _encode(canvas)


def mask_thumbnail(mask: NDArray[np.bool_], labels: NDArray[np.uint8] | None) -> bytes:
    """Encode a mask, (H, W) bool, as a small JPEG: found green, false red, missed blue; amber without labels."""
    if labels is None:
        canvas = _canvas(np.zeros(mask.shape, dtype=np.uint8))
        canvas[_shrink_mask(mask)] = _ANOMALOUS_RGB
        return _encode(canvas)
    canvas, anomalous = _canvas(labels), labels == ANOMALOUS
    canvas[_shrink_mask(mask & ~anomalous & (labels != VOID))] = _FALSE_RGB
    canvas[_shrink_mask(anomalous & ~mask)] = _MISSED_RGB
    canvas[_shrink_mask(anomalous & mask)] = _HIT_RGB
    return _encode(canvas)


def _canvas(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    void = cv2.resize((labels == VOID).view(np.uint8), _small_wh(labels.shape), interpolation=cv2.INTER_NEAREST)
    colours = np.array([_NORMAL_RGB, _VOID_RGB], dtype=np.uint8)
    return np.asarray(colours[void], dtype=np.uint8)


def _shrink_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    fraction = cv2.resize(mask.astype(np.float32), _small_wh(mask.shape), interpolation=cv2.INTER_AREA)
    return np.asarray(fraction > 0)


def _shrink(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.resize(array, _small_wh(array.shape), interpolation=cv2.INTER_AREA))


def _small_wh(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, _WIDTH_PX / shape[1])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _encode(image_rgb: NDArray[np.uint8]) -> bytes:
    encoded = cv2.imencode(
        ".jpg", np.ascontiguousarray(image_rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return bytes(encoded[1])
