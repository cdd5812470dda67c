"""Where a camera is, and how it looks at the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import GroundError

Floats = NDArray[np.float64]

# From the optical frame (x right, y down, z forward) to one with x forward, y left, z up: REP 103.
_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_UP = np.array([0.0, 0.0, 1.0])
HIGHEST_M = 100.0


@dataclass(frozen=True, eq=False)
class CameraPose:
    """A camera in the frame in which obstacles are located, over the plane that is the ground.

    Attributes:
        rotation: (3, 3), from the optical frame to that frame.
        position: (3,), of the camera in it, in metres.
        normal: (3,), of the ground, upwards, of length 1.
        offset_m: the ground is where a point's product with the normal is this.

    Raises:
        GroundError: if the camera is not above the ground, or too far above it, or the rotation is none.
    """

    rotation: Floats
    position: Floats
    normal: Floats
    offset_m: float = 0.0

    def __post_init__(self) -> None:
        finite = (
            np.isfinite(self.rotation).all() and np.isfinite(self.position).all() and np.isfinite(self.normal).all()
        )
        if not finite or not np.allclose(self.rotation @ self.rotation.T, np.eye(3), atol=1e-6):
            raise GroundError("the camera's pose is implausible: its rotation or position is not finite, or is none")
        if not 0 < self.height_m <= HIGHEST_M:
            raise GroundError(
                f"the camera's pose is implausible: it must be from 0 to {HIGHEST_M:g} m above the ground, "
                f"got {self.height_m:g} m"
            )
        if self.normal[2] < 0.5:
            raise GroundError("the ground must be level with its frame within 60 degrees: its z axis must point up")

    @property
    def height_m(self) -> float:
        """Of the camera above the ground."""
        return float(self.normal @ self.position) - self.offset_m

    @cached_property
    def axis(self) -> Floats:
        """The optical axis, (3,)."""
        return np.asarray(self.rotation[:, 2])

    @cached_property
    def forward(self) -> Floats:
        """Along the ground, to where the camera looks, (3,); for one that looks straight down, to its image's top."""
        along = self.axis - (self.axis @ self.normal) * self.normal
        if np.linalg.norm(along) < 1e-3:
            along = -self.rotation[:, 1] + (self.rotation[:, 1] @ self.normal) * self.normal
        return np.asarray(along / np.linalg.norm(along))

    @cached_property
    def left(self) -> Floats:
        """Along the ground, (3,)."""
        return np.cross(self.normal, self.forward)


def pose_from_angles(height_m: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> CameraPose:
    """Place a camera above the origin, looking along x; angles as in :class:`GroundConfig`.

    Raises:
        GroundError: as :class:`CameraPose`.
    """
    (sp, sr), (cp, cr) = np.sin(np.deg2rad([pitch_deg, roll_deg])), np.cos(np.deg2rad([pitch_deg, roll_deg]))
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return CameraPose(pitch @ roll @ _FROM_OPTICAL, np.array([0.0, 0.0, height_m]), _UP)


Transform = tuple[Sequence[float], Sequence[float]]
"""A translation x, y, z and a rotation as a quaternion x, y, z, w."""


def pose_from_transform(camera: Transform, ground: Transform | None = None) -> CameraPose:
    """Place a camera by what tf says of its optical frame.

    Args:
        camera: from the optical frame to that in which obstacles are located.
        ground: from the frame whose plane z = 0 is the ground to the same; None: it is that frame itself.

    Raises:
        GroundError: as :class:`CameraPose`.
    """
    normal, offset_m = _UP, 0.0
    if ground is not None:
        normal = _rotation(ground[1])[:, 2]
        offset_m = float(normal @ np.asarray(ground[0], np.float64))
    return CameraPose(_rotation(camera[1]), np.array(camera[0], np.float64), normal, offset_m)


def _rotation(quaternion_xyzw: Sequence[float]) -> Floats:
    x, y, z, w = q = np.array(quaternion_xyzw, np.float64)
    norm = float(np.linalg.norm(q))
    if not 0.99 < norm < 1.01:
        raise GroundError(f"a rotation must be a quaternion of length 1, got one of length {norm:g}")
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
