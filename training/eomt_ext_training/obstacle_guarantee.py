"""Choose a threshold that bounds the fraction of missed obstacles, by size.

An obstacle is found if at least half of its pixels lie above the threshold. At the logit where the k-th of n obstacles
of different frames is lost, the fraction of all obstacles that are missed is Beta(k, n − k + 1) distributed. The
largest k with P(Binomial(n, α) ≥ k) ≥ 1 − δ keeps it at or below α with a confidence of 1 − δ over the choice of the
frames: a distribution-free tolerance limit (Wilks 1941). It holds for obstacles like those of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from eomt_ext_core.datasets.labels import ANOMALOUS, check_frame
from eomt_ext_core.errors import ConfigError, DatasetError

CONFIDENCE = 0.99
SIZE_CLASSES = {"small": (10, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}
"""Areas in pixels, from and below, as COCO has them; what is smaller than 10 pixels is no obstacle."""


class Obstacle(NamedTuple):
    """An obstacle of a frame: its class of size, and the least logit at which a threshold loses it."""

    size: str
    lost_at: float


@dataclass(frozen=True)
class ObstacleThreshold:
    """A threshold of the logit, and what it keeps.

    Attributes:
        logit: what lies above it is anomalous.
        counts: obstacles of each class that it was chosen on, one of a frame; those of other classes are not bounded.
    """

    logit: float
    counts: Mapping[str, int]


def obstacles_of(logits: ArrayLike, labels: ArrayLike) -> Iterator[Obstacle]:
    """Find the obstacles of a frame: 8-connected anomalous pixels.

    Args:
        logits: (H, W) float.
        labels: (H, W): 0 normal, 1 anomalous, 255 void.

    Raises:
        DatasetError: if shapes differ, a label is another, or a logit is not finite.
    """
    logit_array, label_array = check_frame(logits, labels)
    count, components = cv2.connectedComponents((label_array == ANOMALOUS).astype(np.uint8), connectivity=8)
    for index in range(1, count):
        values = np.sort(logit_array[components == index])[::-1]
        for size, (least, below) in SIZE_CLASSES.items():
            if least <= len(values) < below:
                yield Obstacle(size, float(values[(len(values) - 1) // 2]))


class MissedObstacles:
    """Obstacles of any number of frames, one of a class and a frame, as those of one frame are not independent."""

    def __init__(self) -> None:
        self._lost_at: dict[str, list[float]] = {size: [] for size in SIZE_CLASSES}
        self._rng = np.random.default_rng(0)

    def add(self, logits: ArrayLike, labels: ArrayLike) -> None:
        """Add a frame: see :func:`obstacles_of`."""
        found: dict[str, list[float]] = {}
        for size, lost_at in obstacles_of(logits, labels):
            found.setdefault(size, []).append(lost_at)
        for size, values in found.items():
            self._lost_at[size].append(values[int(self._rng.integers(len(values)))])

    def choose(self, target: float) -> ObstacleThreshold:
        """Choose the largest threshold that finds ``target`` of the obstacles of every class that has enough of them.

        Raises:
            ConfigError: if the target does not lie in (0, 1).
            DatasetError: if no class has enough.
        """
        if not 0.0 < target < 1.0:
            raise ConfigError(f"the target must lie between 0 and 1, got {target}")
        ranks = {size: lost_rank(len(values), 1 - target) for size, values in self._lost_at.items()}
        bounded = {size: rank for size, rank in ranks.items() if rank}
        if not bounded:
            counts = ", ".join(f"{len(values)} {size}" for size, values in self._lost_at.items())
            raise DatasetError(
                f"a target of {target:g} needs at least {obstacles_needed(target)} frames with obstacles of one size, "
                f"got {counts}: give more frames or a lower target"
            )
        logit = min(float(np.sort(self._lost_at[size])[rank - 1]) for size, rank in bounded.items())
        return ObstacleThreshold(logit, {size: len(self._lost_at[size]) for size in bounded})


def lost_rank(count: int, alpha: float, confidence: float = CONFIDENCE) -> int:
    """The largest k with P(Binomial(count, α) ≥ k) ≥ confidence; 0 if there is none.

    >>> [lost_rank(count, 0.05, 0.95) for count in (58, 59, 92, 93)]
    [0, 1, 1, 2]
    """
    below, rank = 0.0, 0  # below: P(Binomial < rank + 1)
    while rank < count:
        below += math.comb(count, rank) * alpha**rank * (1 - alpha) ** (count - rank)
        if 1 - below < confidence:
            break
        rank += 1
    return rank


def obstacles_needed(target: float, confidence: float = CONFIDENCE) -> int:
    """The fewest obstacles of a class that allow a target at all.

    >>> obstacles_needed(0.95), obstacles_needed(0.9)
    (90, 44)
    """
    return math.ceil(math.log(1 - confidence) / math.log(target))
