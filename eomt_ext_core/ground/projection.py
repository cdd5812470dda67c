"""Pixels of the ground to points on it, with what is not known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera_model import CameraModel, Rays, whatever_the_numbers
from .camera_pose import CameraPose
from .ground_config import GroundConfig

Floats = NDArray[np.float64]

_PIXEL_VARIANCE = 1 / 12  # of what lies anywhere within ± half a pixel


@dataclass(frozen=True)
class GroundPoints:
    """N points on the ground, NaN of pixels that do not see it.

    Attributes:
        xyz: (N, 3), in metres.
        covariance: (N, 3, 3), of a point, in square metres.
        range_m: (N,), along x and y from the origin of the frame.
        sigma_range_m: (N,), its standard deviation.
        per_row_m: (N,), how far the range goes up with one row down, below 0 for a camera that stands upright.
    """

    xyz: Floats
    covariance: Floats
    range_m: Floats
    sigma_range_m: Floats
    per_row_m: Floats


def project(pixels: Floats, camera: CameraModel, pose: CameraPose, config: GroundConfig) -> GroundPoints:
    """Project (N, 2) pixels to the ground, whole numbers at their centres; see :func:`meet_ground`."""
    return meet_ground(camera.rays(pixels), pose, config)


@whatever_the_numbers
def meet_ground(rays: Rays, pose: CameraPose, config: GroundConfig) -> GroundPoints:
    """Find where rays meet the ground.

    A point's covariance follows to first order from ± half a pixel and from the deviations of pitch, roll and height:
    if a ray d turns by δd, its point at distance t moves by t (δd − d (n·δd) / (n·d)), with the normal n.

    Args:
        rays: of N pixels.
        pose: of the camera.
        config: the deviations.
    """
    direction, normal = rays.directions @ pose.rotation.T, pose.normal
    down = -(direction @ normal)
    down = np.where(down > 0, down, np.nan)  # at or above the horizon, and of no ray
    along = pose.height_m / down
    xyz = pose.position + along[:, None] * direction

    def moved(turned: Floats) -> Floats:
        return np.asarray(along[:, None] * (turned + direction * ((turned @ normal) / down)[:, None]))

    column = moved(rays.per_pixel[:, :, 0] @ pose.rotation[:, :2].T)
    row = moved(rays.per_pixel[:, :, 1] @ pose.rotation[:, :2].T)
    pitch = moved(np.cross(pose.left, direction)) * np.deg2rad(config.pitch_deviation_deg)
    roll = moved(np.cross(pose.axis, direction)) * np.deg2rad(config.roll_deviation_deg)
    height = (normal + direction / down[:, None]) * config.height_deviation_m
    half_px = np.sqrt(_PIXEL_VARIANCE)
    errors = np.stack([column * half_px, row * half_px, pitch, roll, height], 1)
    covariance = np.einsum("nki,nkj->nij", errors, errors)

    range_m = np.hypot(xyz[:, 0], xyz[:, 1])
    outwards = xyz[:, :2] / range_m[:, None]
    sigma = np.linalg.norm(np.einsum("nki,ni->nk", errors[:, :, :2], outwards), axis=1)
    return GroundPoints(xyz, covariance, range_m, sigma, np.einsum("ni,ni->n", row[:, :2], outwards))


def range_interval(range_m: Floats, sigma_m: Floats, deviations: float = 1.645) -> tuple[Floats, Floats]:
    """Bound ranges from below and above; the default of 1.645 deviations holds 90 % of a normal distribution.

    The error of an angle is one of the inverse range, almost linearly, and no symmetric one of the range: 1° of pitch
    may turn 30 m into 19 or 78. So the bounds are range / (1 ± deviations · sigma / range); the upper one is infinite
    if the ground may end at the horizon.

    >>> [bound.round(1).tolist() for bound in range_interval(np.array([10.0]), np.array([2.0]), 1.0)]
    [[8.3], [12.5]]
    """
    relative = deviations * sigma_m / range_m
    with np.errstate(divide="ignore"):
        upper = np.where(relative < 1, range_m / (1 - relative), np.inf)
    return range_m / (1 + relative), upper
