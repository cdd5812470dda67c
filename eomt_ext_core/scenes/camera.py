"""The road's centre line and the camera that drives along it.

World coordinates: `s` metres forward, `d` metres to the right of the road's centre line, `y` metres above the (flat)
ground. Camera coordinates: x right, z forward. Heading changes are small, so a turn is a shear x -> x - yaw * z instead
of a rotation: straight lines stay straight, and every image row of the ground keeps one depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NEAR_M = 1.5
FAR_M = 400.0


@dataclass(frozen=True)
class CentreLine:
    """A winding road: x(s) = sum of a_i sin(s / l_i + p_i)."""

    amplitudes_m: tuple[float, ...]
    lengths_m: tuple[float, ...]
    phases: tuple[float, ...]

    def x(self, s: npt.ArrayLike) -> Floats:
        """Lateral position in metres at the distances `s`."""
        s = np.asarray(s, np.float64)
        waves = zip(self.amplitudes_m, self.lengths_m, self.phases, strict=True)
        return np.asarray(sum(a * np.sin(s / length + phase) for a, length, phase in waves))

    def slope(self, s: float) -> float:
        """dx/ds at `s`."""
        return float(
            sum(
                a / length * np.cos(s / length + phase)
                for a, length, phase in zip(self.amplitudes_m, self.lengths_m, self.phases, strict=True)
            )
        )


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (`s`, `x`), `height_m` above the ground; rows and columns in pixels."""

    size_hw: tuple[int, int]
    focal_px: float
    horizon_px: float
    height_m: float
    line: CentreLine
    s: float
    x: float
    yaw: float

    @property
    def matrix(self) -> Floats:
        """The calibration, (3, 3), of a pinhole camera that looks level; whole numbers are the centres of pixels."""
        f = self.focal_px
        return np.array([[f, 0.0, self.size_hw[1] * 0.5], [0.0, f, self.horizon_px], [0.0, 0.0, 1.0]])

    @property
    def bottom_m(self) -> float:
        """Depth of the ground at the lowest image row."""
        return self.focal_px * self.height_m / max(1.0, self.size_hw[0] - self.horizon_px)

    def lateral(self, s: npt.ArrayLike, d: npt.ArrayLike) -> Floats:
        """Camera x in metres of road points (s, d)."""
        depth = np.asarray(s, np.float64) - self.s
        return self.line.x(s) + np.asarray(d, np.float64) - self.x - self.yaw * depth

    def pixels(self, x: npt.ArrayLike, y: npt.ArrayLike, z: npt.ArrayLike) -> Floats:
        """Image points (..., 2) as (column, row) of camera points; depths are clamped to `NEAR_M`."""
        scale = self.focal_px / np.maximum(z, NEAR_M)
        column = self.size_hw[1] * 0.5 + scale * np.asarray(x, np.float64)
        row = self.horizon_px + scale * (self.height_m - np.asarray(y, np.float64))
        points = np.empty((*np.broadcast_shapes(column.shape, row.shape), 2))
        points[..., 0], points[..., 1] = column, row
        return points

    def project(self, s: npt.ArrayLike, d: npt.ArrayLike, y: npt.ArrayLike = 0.0) -> Floats:
        """Image points (..., 2) as (column, row) of road points (s, d) at the height y."""
        return self.pixels(self.lateral(s, d), y, np.asarray(s, np.float64) - self.s)

    def strip(self, s_from: float, s_to: float, d_from: float, d_to: float, step_m: float = 4.0) -> Floats | None:
        """Outline (n, 2) of the ground between two distances and two offsets, or None if it is behind the camera."""
        near, far = max(s_from - self.s, self.bottom_m * 0.8), min(s_to - self.s, FAR_M)
        if far <= near:
            return None
        count = int(np.clip((far - near) / step_m, 1, 40)) + 1
        depth = np.geomspace(near, far, count)
        left = self.project(self.s + depth, d_from)
        right = self.project(self.s + depth, d_to)
        return np.concatenate([left, right[::-1]])
