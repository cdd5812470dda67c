"""The camera models of ``sensor_msgs/CameraInfo``: pixels to rays and back, by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import GroundError

Floats = NDArray[np.float64]

# Numbers of distortion coefficients that each model may have.
_COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12, 14), "equidistant": (0, 4)}
EXACT_PX = 1e-6
"""A ray is given only if it is seen this near to its pixel."""
_CONVERGED_PX = 1e-7
_MOST_STEPS = 8
_WIDEST = 8.0  # tangent of 83°: no ray of a model is farther from the axis
_RADII, _DIRECTIONS = 801, 8  # at which distortion is looked at
_NOWHERE = np.zeros(3)
# A calibration may hold any finite numbers: what comes of them is not finite, and gives no ray.
whatever_the_numbers = np.errstate(invalid="ignore", divide="ignore", over="ignore")


@dataclass(frozen=True)
class Rays:
    """Where pixels look: the ray of ``xy`` = (a, b) goes through (a, b, 1) of the optical frame, x right, y down.

    Attributes:
        xy: (N, 2), NaN if no ray is certain to be seen at the pixel.
        per_pixel: (N, 2, 2), how ``xy`` changes with the pixel.
    """

    xy: Floats
    per_pixel: Floats

    def __getitem__(self, part: slice) -> Rays:
        return Rays(self.xy[part], self.per_pixel[part])

    @property
    def directions(self) -> Floats:
        """(N, 3), in the optical frame."""
        return np.concatenate([self.xy, np.ones((len(self.xy), 1))], 1)


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A calibrated camera; pixels have whole numbers at their centres, as OpenCV's.

    Attributes:
        size_hw: of its images.
        matrix: (3, 3), focal lengths and principal point.
        distortion: (n,), as OpenCV orders them; empty: none.
        is_fisheye: whether they are those of the equidistant model.
    """

    size_hw: tuple[int, int]
    matrix: Floats
    distortion: Floats
    is_fisheye: bool = False

    @whatever_the_numbers
    def rays(self, pixels: Floats) -> Rays:
        """Undistort (N, 2) pixels.

        OpenCV's projection is inverted by Newton's method, from a start that is right but for tangential distortion:
        its own ``undistortPoints`` does not converge for every lens. A ray is NaN if it is not seen within ``EXACT_PX``
        of its pixel, or beyond the circle at which the distortion folds, where one pixel would have several rays.
        """
        pixels = np.ascontiguousarray(pixels, np.float64).reshape(-1, 2)
        focal = self.matrix[[0, 1], [0, 1]]
        if not self.distortion.any() and not self.is_fisheye:
            per_pixel = np.broadcast_to(np.diag(1 / focal), (len(pixels), 2, 2))
            return Rays((pixels - self.matrix[:2, 2]) / focal, per_pixel)
        if not len(pixels):
            return Rays(np.empty((0, 2)), np.empty((0, 2, 2)))
        distorted = (pixels - self.matrix[:2, 2]) / focal
        radius = np.hypot(*distorted.T)
        xy = distorted * (np.interp(radius, *self._radii) / np.maximum(radius, 1e-12))[:, None]
        xy[radius > self._farthest] = np.nan
        seen, per_ray = self._seen(xy)
        error = seen - pixels
        for _ in range(_MOST_STEPS):
            todo = np.flatnonzero(np.abs(error).max(1) > _CONVERGED_PX)
            if not len(todo):
                break
            xy[todo] -= np.einsum("nij,nj->ni", _inverse(per_ray[todo]), error[todo])
            xy[todo[~(np.abs(xy[todo]) < _WIDEST).all(1)]] = np.nan
            seen[todo], per_ray[todo] = self._seen(xy[todo])
            error[todo] = seen[todo] - pixels[todo]
        certain = (np.abs(error).max(1) <= EXACT_PX) & (np.hypot(*xy.T) < self.fold)
        xy[~certain] = np.nan
        return Rays(xy, _inverse(per_ray))

    @whatever_the_numbers
    def pixels(self, points: Floats) -> Floats:
        """See (N, 3) points of the optical frame: (N, 2), NaN behind the camera or beyond the fold."""
        xy = points[:, :2] / np.where(points[:, 2] > 0, points[:, 2], np.nan)[:, None]
        xy[~(np.hypot(*xy.T) < self.fold)] = np.nan
        result = np.full(xy.shape, np.nan)
        known = np.isfinite(xy).all(1)
        if known.any():
            result[known] = self._seen(xy[known])[0]
        return result

    @property
    def fold(self) -> float:
        """Distance from the axis, in ``xy``, up to which no two rays are seen at one pixel."""
        return float(self._radii[1][-1])

    @cached_property
    def _farthest(self) -> float:
        """Distance from the axis, over the focal length, beyond which nothing is seen, with 1 % to spare."""
        return 1.01 * float(self._radii[0].max())

    @cached_property
    @whatever_the_numbers
    def _radii(self) -> tuple[Floats, Floats]:
        """Distances from the axis up to the fold: as they are seen, over the focal length, and of the rays."""
        radius = np.linspace(0, _WIDEST, _RADII)
        turn = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
        circles = radius[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], -1)
        pixels, per_ray = self._seen(circles.reshape(-1, 2))
        seen = np.hypot(*((pixels - self.matrix[:2, 2]) / self.matrix[[0, 1], [0, 1]]).T).reshape(_RADII, -1).mean(1)
        mirrored = ~(np.linalg.det(per_ray).reshape(_RADII, -1) > 0).all(1)
        end = max(2, int(np.argmax(mirrored))) if mirrored.any() else _RADII
        return seen[:end], radius[:end]

    def _seen(self, xy: Floats) -> tuple[Floats, Floats]:
        """Pixels (N, 2) of rays, and how they change with ``xy``: (N, 2, 2)."""
        points = np.concatenate([xy, np.ones((len(xy), 1))], 1)[:, None]
        if self.is_fisheye:
            seen, derivatives = cv2.fisheye.projectPoints(points, _NOWHERE, _NOWHERE, self.matrix, self.distortion)
            translation = slice(11, 13)  # after focal lengths, principal point, distortion and rotation
        else:
            seen, derivatives = cv2.projectPoints(points, _NOWHERE, _NOWHERE, self.matrix, self.distortion)
            translation = slice(3, 5)  # after the rotation
        per_ray = np.asarray(derivatives, np.float64)[:, translation].reshape(-1, 2, 2)
        return np.asarray(seen, np.float64).reshape(-1, 2), per_ray


def camera_model(
    name: str, size_hw: tuple[int, int], matrix: Sequence[float], distortion: Sequence[float]
) -> CameraModel:
    """Make a model of what a ``sensor_msgs/CameraInfo`` says.

    Args:
        name: ``plumb_bob``, ``rational_polynomial`` or ``equidistant``; empty without distortion.
        size_hw: of the images.
        matrix: the 9 numbers of ``k``, row by row.
        distortion: those of ``d``.

    Raises:
        GroundError: if the model is not known, or its numbers cannot be of a camera.
    """
    if name not in _COEFFICIENTS and (name or len(distortion)):
        raise GroundError(f"the distortion model must be one of {', '.join(_COEFFICIENTS)}, got {name[:40]!r}")
    if len(distortion) not in _COEFFICIENTS.get(name, (0,)):
        raise GroundError(f"{name} has {_COEFFICIENTS[name][-1]} distortion coefficients, got {len(distortion)}")
    k, d = np.array(matrix, np.float64).reshape(3, 3), np.array(distortion, np.float64)
    if not (np.isfinite(k).all() and np.isfinite(d).all() and k[0, 0] > 0 and k[1, 1] > 0):
        raise GroundError("the camera is not calibrated: its camera_info has no focal length, or numbers not finite")
    if not np.array_equal(k[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1]):
        raise GroundError(f"the camera's matrix must be [fx 0 cx; 0 fy cy; 0 0 1], got {k.ravel().tolist()}")
    is_fisheye = name == "equidistant"
    return CameraModel(size_hw, k, np.zeros(4) if is_fisheye and not len(d) else d, is_fisheye)


def _inverse(matrices: Floats) -> Floats:
    """Of (N, 2, 2); where there is none, values that are not finite."""
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    adjugate = np.stack([d, -b, -c, a], -1).reshape(-1, 2, 2)
    return np.asarray(adjugate / (a * d - b * c)[:, None, None])
