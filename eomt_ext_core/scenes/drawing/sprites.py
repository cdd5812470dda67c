"""Flat drawings of upright things, made in metres at a chosen resolution, later warped into the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .textures import Colour, Image

PAD = 2
_SHIFT = 4
_TURN = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], -1)


@dataclass(frozen=True)
class Sprite:
    """A drawing with coverage: `rgba` (h, w, 4) uint8, `width_m` x `height_m` metres and a clear border of `PAD` px."""

    rgba: Image
    width_m: float
    height_m: float
    px_per_m: float


def fixed_point(points: object) -> npt.NDArray[np.int32]:
    """Pixel points as OpenCV's fixed-point integers (4 fractional bits), kept in a range it can rasterise."""
    array = np.asarray(points, np.float64)
    return np.maximum(np.minimum(array * 16.0 + 0.5, 128000.0), -128000.0).astype(np.int32)


def framed(rgb: Image, width_m: float, height_m: float) -> Sprite:
    """A picture without holes as a sprite."""
    opaque = cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA)
    border = cv2.copyMakeBorder(opaque, PAD, PAD, PAD, PAD, cv2.BORDER_REPLICATE)
    border[:PAD, :, 3] = border[-PAD:, :, 3] = border[:, :PAD, 3] = border[:, -PAD:, 3] = 0
    return Sprite(border, width_m, height_m, rgb.shape[0] / height_m)  # type: ignore[arg-type]


class Pen:
    """Draws in metres: x from the middle to the right, y up from the ground; a fill is a colour or a texture image."""

    def __init__(self, width_m: float, height_m: float, resolution_px: int, base: Colour) -> None:
        self.width_m, self.height_m = width_m, height_m
        self.scale = resolution_px / max(width_m, height_m)
        size = (max(1, round(height_m * self.scale)) + 2 * PAD, max(1, round(width_m * self.scale)) + 2 * PAD)
        # The base colour shines through the antialiased edges, so it should be that of the body.
        self.rgba: Image = np.empty((*size, 4), np.uint8)
        self.rgba[:] = (*base, 0.0)
        self._factor = np.array([self.scale, -self.scale])
        self._offset = np.array([PAD + 0.5 * width_m * self.scale - 0.5, PAD + height_m * self.scale - 0.5])

    def _fixed(self, points: object) -> npt.NDArray[np.int32]:
        fixed: npt.NDArray[np.int32] = (
            (np.asarray(points, np.float64) * self._factor + self._offset) * 16.0 + 0.5
        ).astype(np.int32)
        return fixed

    def polygon(self, points: object, fill: Colour | Image) -> None:
        """Fill a polygon."""
        corners = [self._fixed(points)]
        if isinstance(fill, np.ndarray):
            mask: Image = np.zeros(self.rgba.shape[:2], np.uint8)
            cv2.fillPoly(mask, corners, 255, cv2.LINE_AA, _SHIFT)
            texture = cv2.cvtColor(
                cv2.resize(fill, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2RGBA
            )
            keep = mask.astype(np.float32) / 255.0
            alpha = cv2.max(mask, self.rgba[..., 3])
            self.rgba = cv2.blendLinear(texture, self.rgba, keep, 1.0 - keep)  # type: ignore[assignment]
            self.rgba[..., 3] = alpha
            return
        cv2.fillPoly(self.rgba, corners, (*fill, 255.0), cv2.LINE_AA, _SHIFT)

    def box(self, left: float, bottom: float, right: float, top: float, fill: Colour | Image) -> None:
        """Fill an axis-aligned rectangle."""
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour | Image, angle: float = 0.0) -> None:
        """Fill an ellipse turned counter-clockwise by `angle` radians."""
        ring = _CIRCLE * (rx, ry)
        if angle:
            cos, sin = np.cos(angle), np.sin(angle)
            ring = ring @ np.array([[cos, sin], [-sin, cos]])
        self.polygon(ring + np.array([x, y]), fill)

    def limb(self, points: Sequence[tuple[float, float]], width_m: float, fill: Colour) -> None:
        """A polyline of a given width with round joints."""
        thickness = max(1, round(width_m * self.scale))
        cv2.polylines(self.rgba, [self._fixed(points)], False, (*fill, 255.0), thickness, cv2.LINE_AA, _SHIFT)

    def erase(self, x: float, y: float, rx: float, ry: float) -> None:
        """Cut an elliptic hole."""
        hole = np.ascontiguousarray(self.rgba[..., 3])
        cv2.fillPoly(hole, [self._fixed(_CIRCLE * (rx, ry) + np.array([x, y]))], 0, cv2.LINE_AA, _SHIFT)
        self.rgba[..., 3] = hole

    def sprite(self) -> Sprite:
        """The finished drawing; its border stays clear whatever was drawn over it."""
        alpha = self.rgba[..., 3]
        alpha[:PAD] = alpha[-PAD:] = 0
        alpha[:, :PAD] = alpha[:, -PAD:] = 0
        return Sprite(self.rgba, self.width_m, self.height_m, self.scale)


def relief(sprite: Sprite, light_x: float, strength: float) -> Sprite:
    """Shade a drawing as if it bulged: its blurred silhouette is a height field lit from the side and above."""
    alpha = np.ascontiguousarray(sprite.rgba[..., 3])
    radius = max(3, int(max(alpha.shape) * 0.12) | 1)
    bulge = cv2.GaussianBlur(alpha, (radius, radius), 0)
    slope_x = cv2.Sobel(bulge, cv2.CV_32F, 1, 0, ksize=3, scale=-light_x * strength * radius / 255.0 / 8.0)
    slope_y = cv2.Sobel(bulge, cv2.CV_32F, 0, 1, ksize=3, scale=0.8 * strength * radius / 255.0 / 8.0, delta=1.0)
    gain = np.clip(slope_x + slope_y, 0.35, 1.6)
    gain *= np.linspace(1.06, 0.8, gain.shape[0], dtype=np.float32)[:, None]
    rgba = cv2.multiply(sprite.rgba, cv2.merge([gain] * 4), dtype=cv2.CV_8U)
    rgba[..., 3] = alpha
    return Sprite(rgba, sprite.width_m, sprite.height_m, sprite.px_per_m)  # type: ignore[arg-type]
