"""Pictures of an anomaly probability for people."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ImageError

CONTOUR_RGB = (255, 255, 255)

# One colour a level: what the model knows is dark blue, what it does not know is bright.
_TURBO_RGB = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].copy()


def heatmap(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour a probability: (H, W) float32 in [0, 1] to (H, W, 3) uint8 RGB (Turbo, fixed range)."""
    return np.take(_TURBO_RGB, _levels(probability), axis=0)


def overlay(
    image_rgb: NDArray[np.uint8],
    probability: NDArray[np.float32],
    mask: NDArray[np.bool_] | None = None,
    opacity: float = 0.75,
) -> NDArray[np.uint8]:
    """Lay the heatmap over an image, the more opaque the more probable, with the outline of the mask.

    Args:
        image_rgb: (H, W, 3) uint8.
        probability: (H, W) float32 in [0, 1].
        mask: (H, W) bool to outline, or none.
        opacity: of the heatmap where the probability is 1, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: where the sizes differ.
    """
    sizes = [array.shape[:2] for array in (image_rgb, probability, mask) if array is not None]
    if len(set(sizes)) > 1:
        given = ", ".join("×".join(map(str, size)) for size in sizes)
        raise ImageError(f"image, probability and mask must have one size, got {given}", reason="shape")
    levels = _levels(probability)
    heat = cv2.multiply(np.take(_TURBO_RGB, levels, axis=0), cv2.merge([levels] * 3), scale=opacity / 255)
    kept = cv2.merge([np.uint8(255) - (levels * np.float32(opacity)).astype(np.uint8)] * 3)
    blended = cv2.add(cv2.multiply(image_rgb, kept, scale=1 / 255), heat)
    if mask is not None:
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(blended, contours, -1, CONTOUR_RGB, thickness=max(1, round(image_rgb.shape[0] / 360)))
    return np.asarray(blended, dtype=np.uint8)


def _levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(probability, alpha=255), dtype=np.uint8)
