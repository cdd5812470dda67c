"""Obstacles on the ground: their contact lines in metres, and a box around each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.obstacles import Obstacle, ObstacleFrame

from .camera_model import CameraModel
from .camera_pose import CameraPose
from .contacts import Region, find_contacts
from .ground_config import GroundConfig
from .projection import GroundPoints, meet_ground

Floats = NDArray[np.float64]

_MOST_RECESSION = 1.0
"""Metres that a contact line goes away from the camera for each metre to the side, at most.

What recedes more is a round flank or a belly between legs, and stands on nothing; or an edge that cannot be told from
them, as it is seen from so far aside, and is behind the nearest part in any case.
"""


@dataclass(frozen=True)
class GroundObstacle:
    """An obstacle that stands on the ground.

    Attributes:
        obstacle: in the image.
        id: of its track, or its place in the list if it is not followed.
        range_m, sigma_range_m: of its nearest contact, from the frame's origin.
        nearest_xyz: (3,), that contact, in metres.
        covariance: (3, 3), of it.
        box_xyz: (3,), the centre of a box around the obstacle.
        size_xyz: depth of the contact line, width and height; a height of 0 is not known.
        yaw: of the box about z, that of the camera.
    """

    obstacle: Obstacle
    id: int
    range_m: float
    sigma_range_m: float
    nearest_xyz: Floats
    covariance: Floats
    box_xyz: Floats
    size_xyz: tuple[float, float, float]
    yaw: float


@dataclass(frozen=True)
class GroundFrame:
    """The obstacles of an image that are seen to stand on the ground.

    Attributes:
        obstacles: in the order in which they are listed in the image.
        points: the N contacts of all of them.
        of_obstacle: (N,), which of ``obstacles`` a point is of.
    """

    obstacles: list[GroundObstacle]
    points: GroundPoints
    of_obstacle: NDArray[np.int64]


def locate(
    found: ObstacleFrame,
    camera: CameraModel,
    pose: CameraPose,
    config: GroundConfig,
    inside: Region | None = None,
) -> GroundFrame:
    """Project the contact lines of the listed obstacles to the ground.

    Left out is what is cut off below, what is farther than ``max_range_m``, and what is behind the contact line by more
    than a pixel: the line recedes by ``_MOST_RECESSION`` at most, from where an obstacle is cut off, too.

    Args:
        found: by :func:`~eomt_ext_core.obstacles.find_obstacles`.
        camera: that the image is of.
        pose: of the camera.
        config: deviations and the largest range.
        inside: the region that cut the mask; None: none did.
    """
    contacts = find_contacts(found, inside)
    # The lower edge of the pixel: between its centre, which is of the obstacle, and the next, which is not.
    edges = np.stack([contacts.column, contacts.row + 0.5], 1)
    rays = camera.rays(np.concatenate([edges, _corners(found)]))
    points, corners = meet_ground(rays[: len(edges)], pose, config), rays[len(edges) :].directions.reshape(-1, 3, 3)
    kept = ~contacts.is_cut & (points.range_m <= config.max_range_m) & ~_behind(points, contacts.obstacle, pose)
    points, obstacle = _chosen(points, kept), contacts.obstacle[kept]
    if not len(obstacle):
        return GroundFrame([], points, obstacle)
    is_first = np.diff(obstacle, prepend=-1) != 0
    of_obstacle, first = np.cumsum(is_first) - 1, np.flatnonzero(is_first)
    return GroundFrame(_located(found, obstacle[first], first, points, corners, pose), points, of_obstacle)


def _parts(obstacle: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Each obstacle with its slice of the contacts."""
    if len(obstacle):
        bounds = [0, *(np.flatnonzero(np.diff(obstacle)) + 1).tolist(), len(obstacle)]
        for first, end in itertools.pairwise(bounds):
            yield int(obstacle[first]), slice(first, end)


def _chosen(points: GroundPoints, part: NDArray[np.bool_] | slice) -> GroundPoints:
    return GroundPoints(
        points.xyz[part], points.covariance[part], points.range_m[part], points.sigma_range_m[part],
        points.per_row_m[part],
    )  # fmt: skip


def _behind(points: GroundPoints, obstacle: NDArray[np.int64], pose: CameraPose) -> NDArray[np.bool_]:
    """Whether each point is behind its obstacle's contact line: (N,) bool."""
    depth, side = _along(points.xyz - pose.position, pose)
    nearest = depth - np.abs(points.per_row_m)  # if the contact were a pixel lower
    behind = np.zeros(len(obstacle), np.bool_)
    for _, part in _parts(obstacle):
        known = np.flatnonzero(np.isfinite(depth[part])) + part.start
        known = known[np.argsort(side[known], kind="stable")]
        z, x = depth[known], _MOST_RECESSION * side[known]
        line = np.minimum(
            np.minimum.accumulate(z - x) + x, np.minimum.accumulate((z + x)[::-1])[::-1] - x
        )  # the farthest line that recedes no more and has no point before it
        behind[known] = nearest[known] > line
    return behind


def _located(
    found: ObstacleFrame,
    listed: NDArray[np.int64],
    first: NDArray[np.int64],
    points: GroundPoints,
    corners: Floats,
    pose: CameraPose,
) -> list[GroundObstacle]:
    """Describe the M obstacles ``listed``, (M,), whose contacts begin at ``first``, (M,); corners are of all."""
    depth, side = _along(points.xyz - pose.position, pose)
    ends = np.append(first[1:], len(depth))
    nearest = np.array([a + int(np.argmin(points.range_m[a:b])) for a, b in zip(first, ends, strict=True)])
    obstacles = [found.obstacles[index] for index in listed]
    right, left, height = _seen_at(depth[nearest], corners[listed], pose)
    right, left = np.fmin(right, np.minimum.reduceat(side, first)), np.fmax(left, np.maximum.reduceat(side, first))
    near, far = np.minimum.reduceat(depth, first), np.maximum.reduceat(depth, first)
    foot = pose.position - pose.height_m * pose.normal
    middle = np.stack([(near + far) / 2, (right + left) / 2, height / 2], 1)
    box_xyz = foot + middle @ np.stack([pose.forward, pose.left, pose.normal])
    size = np.stack([far - near, left - right, height], 1).tolist()
    yaw = float(np.arctan2(pose.forward[1], pose.forward[0]))
    return [
        GroundObstacle(
            obstacle=obstacle,
            id=int(listed[i]) if obstacle.track_id is None else obstacle.track_id,
            range_m=float(points.range_m[nearest[i]]),
            sigma_range_m=float(points.sigma_range_m[nearest[i]]),
            nearest_xyz=points.xyz[nearest[i]],
            covariance=points.covariance[nearest[i]],
            box_xyz=box_xyz[i],
            size_xyz=(size[i][0], size[i][1], size[i][2]),
            yaw=yaw,
        )
        for i, obstacle in enumerate(obstacles)
    ]


def _along(relative: Floats, pose: CameraPose) -> tuple[Floats, Floats]:
    """How far points are away from the camera along the ground and to the left, of (N, 3) relative to it: (N,) each."""
    depth, side = (relative @ np.stack([pose.forward, pose.left], 1)).T
    return depth, side


def _corners(found: ObstacleFrame) -> Floats:
    """Of the box around each component the lower left and right, and the middle of its top, as pixels: (3 M, 2)."""
    assert found.components is not None, "contacts are found in them"
    x, y, width, height = found.components.box_xywh[[each.component for each in found.obstacles]].astype(np.float64).T
    left, top = x - 0.5, y - 0.5  # edges of pixels, whose centres are whole numbers
    corners = [left, top + height, left + width, top + height, left + width / 2, top]
    return np.stack(corners, 1).reshape(-1, 2)


def _seen_at(depth_m: Floats, corners: Floats, pose: CameraPose) -> tuple[Floats, Floats, Floats]:
    """Where the right and left side of obstacles are at a depth, and how high their tops, (M,) each.

    ``corners``, (M, 3, 3), are rays as :func:`_corners` orders them. A side that is not known is NaN, a height 0.
    """
    direction = corners @ pose.rotation.T
    ahead, side = direction @ pose.forward, direction @ pose.left
    with np.errstate(invalid="ignore", divide="ignore"):
        at_depth = np.where(ahead > 0, depth_m[:, None] / ahead, np.nan)
    left, right, _ = (side * at_depth).T
    top = pose.height_m + (direction @ pose.normal * at_depth)[:, 2]
    return np.fmin(left, right), np.fmax(left, right), np.where(top > 0, top, 0.0)
