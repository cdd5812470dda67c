"""Why something is an obstacle: what the frozen network makes of its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .find import Obstacle, ObstacleFrame

_BENEATH_PX = 4


class Reason(NamedTuple):
    """What the network makes of an obstacle.

    Attributes:
        nearest_class: the semantic class that most of its pixels are most like.
        class_beneath: the one that most pixels right below it have; empty if it reaches the lower edge.
        max_prob, entropy, energy, msp: means over its pixels of the four statistics that the head sees.
    """

    nearest_class: str
    class_beneath: str
    max_prob: float
    entropy: float
    energy: float
    msp: float


def reasons(
    found: ObstacleFrame, classes: NDArray[np.uint8], statistics: NDArray[np.float32], class_names: Sequence[str]
) -> list[Reason | None]:
    """Give a reason for each listed obstacle of an image; None for one that is not seen in it.

    Args:
        found: the obstacles; the pixels of one are those of the mask in its box.
        classes: (H, W) ids of the semantic classes.
        statistics: (4, H, W), in the order of :class:`Reason`.
        class_names: by id; an id without a name is its own.
    """
    names = [*class_names, *map(str, range(len(class_names), 256))]
    return [
        None if each.component < 0 else _reason(each, found.mask, classes, statistics, names) for each in found.listed
    ]


def _reason(
    obstacle: Obstacle,
    mask: NDArray[np.bool_],
    classes: NDArray[np.uint8],
    statistics: NDArray[np.float32],
    names: Sequence[str],
) -> Reason:
    left, top, width, height = obstacle.box_xywh
    box = slice(top, top + height), slice(left, left + width)
    inside = mask[box]
    columns = np.flatnonzero(inside.any(axis=0))
    feet = top + height - 1 - np.argmax(inside[::-1, columns], axis=0)
    rows = feet + 1 + np.arange(_BENEATH_PX)[:, None]
    is_seen = rows < mask.shape[0]
    beneath = classes[np.minimum(rows, mask.shape[0] - 1), left + columns][is_seen]
    means = statistics[:, box[0], box[1]][:, inside].mean(axis=1)
    return Reason(names[_most_frequent(classes[box][inside])], names[_most_frequent(beneath)] if beneath.size else "",
                  *map(float, means))  # fmt: skip


def _most_frequent(ids: NDArray[np.uint8]) -> int:
    return int(np.bincount(ids).argmax())
