"""Where the obstacles of an image may touch the ground: the lowest pixels of their columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import GroundError
from eomt_ext_core.obstacles import Obstacle, ObstacleFrame

Region = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
"""Whether pixels, by rows and columns, are inside a region."""


_MOST_ACROSS = 640  # contacts of one obstacle across an image: a wider one has one for each 2, 3 … columns


@dataclass(frozen=True)
class Contacts:
    """N pixels, sorted by obstacle and then by column.

    Attributes:
        obstacle: (N,) which of the listed obstacles it is of.
        column, row: (N,) of the lowest pixel of the obstacle in its column or in its few columns.
        is_cut: (N,) whether the obstacle goes on below, out of the image or of the region.
    """

    obstacle: NDArray[np.int64]
    column: NDArray[np.int64]
    row: NDArray[np.int64]
    is_cut: NDArray[np.bool_]


def find_contacts(found: ObstacleFrame, inside: Region | None = None) -> Contacts:
    """Find the lowest pixel of each listed obstacle in each of its columns, a few at a time if the image is wide.

    Args:
        found: by :func:`~eomt_ext_core.obstacles.find_obstacles`.
        inside: the region that cut the mask; None: none did.

    Raises:
        GroundError: if the obstacles come without their components.
    """
    components, mask = found.components, found.mask
    if components is None:
        raise GroundError("obstacles must come with the components that they were found from, got none")
    (rows, columns), (height, width) = components.crop, mask.shape
    inner = mask[rows, columns]
    below = mask[rows.start + 1 : rows.stop + 1, columns]
    if len(below) < len(inner):  # the crop ends where the image does
        below = np.concatenate([below, np.zeros((1, inner.shape[1]), np.bool_)])
    lowest = np.flatnonzero(inner > below)
    row, column = np.divmod(lowest, max(1, inner.shape[1]))
    row, column = row + rows.start, column + columns.start
    # The run of pixels that it is in says which component it is of.
    run = np.searchsorted(components.run_y * width + components.run_x, row * width + column, side="right") - 1
    obstacle = _listed(found.obstacles, len(components.area_px))[components.run_label[run]]

    key = obstacle * width + column // -(-width // _MOST_ACROSS)  # below 0 of what is not listed
    order = np.argsort(key, kind="stable")  # which leaves the lowest of a key last
    is_last = np.diff(key[order], append=-1) != 0
    chosen = order[is_last & (key[order] >= 0)]
    obstacle, column, row = obstacle[chosen], column[chosen], row[chosen]
    is_cut = row + 1 == height
    if inside is not None:
        is_cut |= ~inside(np.minimum(row + 1, height - 1), column)
    return Contacts(obstacle, column, row, is_cut)


def _listed(obstacles: Sequence[Obstacle], count: int) -> NDArray[np.int64]:
    """Which obstacle each component is, (count,); below 0 if it is none that is listed."""
    listed = np.full(count, -1, np.int64)
    for index, obstacle in enumerate(obstacles):
        if obstacle.component >= 0:
            listed[obstacle.component] = index
    return listed
