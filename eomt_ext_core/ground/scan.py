"""A scan of the ground around a vehicle, as a laser at the origin of the frame would give it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.obstacles import ObstacleFrame

from .camera_model import CameraModel
from .camera_pose import CameraPose
from .contacts import Region
from .ground_config import GroundConfig
from .locate import GroundFrame

BEAMS = 720
INCREMENT_RAD = 2 * np.pi / BEAMS
RANGE_MIN_M = 0.1
_SAMPLES = 32  # of the ground under a beam, from here to the largest range
_NEAREST_M = 0.5


@dataclass(frozen=True, eq=False)
class GroundView:
    """A camera over the ground.

    Attributes:
        camera: its calibration.
        pose: where it is.
        config: how far it is believed.
    """

    camera: CameraModel
    pose: CameraPose
    config: GroundConfig

    @cached_property
    def samples(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Beams whose ground is seen up to the largest range, (B,), and rows and columns of it, (B, ``_SAMPLES``).

        Nearest first; below 0 if the camera does not see that place.
        """
        distance = np.geomspace(_NEAREST_M, self.config.max_range_m, _SAMPLES)
        bearing = -np.pi + INCREMENT_RAD * np.arange(BEAMS)
        x, y = np.cos(bearing)[:, None] * distance, np.sin(bearing)[:, None] * distance
        (n_x, n_y, n_z), pose = self.pose.normal, self.pose
        ground = np.stack([x, y, (pose.offset_m - n_x * x - n_y * y) / n_z], -1)
        optical = (ground - pose.position).reshape(-1, 3) @ pose.rotation
        ahead = (optical[:, 2] > 0) & (np.abs(optical[:, :2]) < 10 * optical[:, 2:]).all(1)
        pixels = np.full((len(optical), 2), -1.0)
        pixels[ahead] = self.camera.pixels(optical[ahead])
        column, row = np.rint(np.nan_to_num(pixels, nan=-1.0)).reshape(BEAMS, _SAMPLES, 2).transpose(2, 0, 1)
        height, width = self.camera.size_hw
        seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        beams = np.flatnonzero(seen[:, -1])
        row, column = (np.where(seen, each, -1)[beams].astype(np.int64) for each in (row, column))
        return beams, row, column


def scan(
    ground: GroundFrame, found: ObstacleFrame, view: GroundView, inside: Region | None = None
) -> NDArray[np.float32]:
    """Give the range of the nearest contact for each of ``BEAMS`` bearings, from -π in steps of ``INCREMENT_RAD``.

    A beam without a contact is free, +inf, if its ground is seen, inside the region and without an obstacle from some
    place on up to the largest range: nothing less says that what is behind may be cleared. Else it is NaN.

    Args:
        ground: the obstacles, as :func:`~eomt_ext_core.ground.locate` finds them.
        found: the same in the image.
        view: of the camera.
        inside: the region that is known to be ground; None: everywhere.

    Returns:
        (``BEAMS``,) float32, in metres.
    """
    ranges = np.full(BEAMS, np.nan)
    beams, row, column = view.samples
    if len(beams):
        seen = row >= 0
        on_ground = seen & ~found.mask[row, column]
        if inside is not None:
            on_ground &= inside(row, column)
        first = np.argmax(on_ground, axis=1)  # what is nearer may be the own bonnet
        blocked = found.mask[row, column] & seen
        later = np.arange(_SAMPLES) >= first[:, None]
        free = (on_ground | ~later).all(1) & ~blocked.any(1)
        ranges[beams[free]] = np.inf
    points = ground.points
    bearing = np.arctan2(points.xyz[:, 1], points.xyz[:, 0])
    beam = np.rint((bearing + np.pi) / INCREMENT_RAD).astype(np.int64) % BEAMS
    nearest = np.full(BEAMS, np.inf)
    np.minimum.at(nearest, beam, points.range_m)
    hit = np.isfinite(nearest)
    ranges[hit] = nearest[hit]
    return ranges.astype(np.float32)
