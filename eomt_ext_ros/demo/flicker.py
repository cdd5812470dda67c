"""How much the obstacles of a recording flicker: as they are found in each image, and those that tracking confirms."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.tracking import Tracker, TrackingConfig

Frame = tuple[float, NDArray[np.float32], NDArray[np.bool_]]
"""Stamp in seconds, probability (H, W), mask (H, W)."""


def flicker(frames: Iterable[Frame]) -> dict[str, int]:
    """Count the steps from frame to frame in which the number of obstacles changes.

    The obstacles are those of the masks; what is confirmed is worked out as the node does it with its defaults.

    Returns:
        ``steps``, ``changes``, and ``changes_confirmed`` for the confirmed and coasting ones.
    """
    inside = [(stamp_s, np.where(mask, probability, np.float32(0))) for stamp_s, probability, mask in frames]
    # No pixel of a mask is below the threshold, which is not published.
    threshold = min((float(p[p > 0].min()) for _, p in inside if (p > 0).any()), default=0.5)
    everything, tracker, numbers, confirmed = ObstacleConfig(min_area_px=1), Tracker(), list[int](), list[int]()
    for stamp_s, probability in inside:
        found = find_obstacles(probability, everything, threshold=0.0)
        followed = tracker.follow(found, stamp_s, TrackingConfig(), threshold=threshold)
        numbers.append(len(found.obstacles))
        confirmed.append(len(followed.confirmed().listed))
    return {
        "steps": max(0, len(inside) - 1),
        "changes": sum(before != after for before, after in pairwise(numbers)),
        "changes_confirmed": sum(before != after for before, after in pairwise(confirmed)),
    }
