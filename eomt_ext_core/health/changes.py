"""Signs that show from image to image: a frozen camera, dirt on its lens, channels or sides that change places.

What cannot be told: a static scene that is drawn without noise is what "frozen" means here, and a camera whose
compression leaves no noise at all looks frozen while vehicle and scene stand still. Dirt that was there from the start
looks like the own bonnet, dirt that comes slowly like the sky, dirt at the left or right border like what a passing
vehicle leaves bare. Channels swapped from the start look like another light.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.health.sample import COLUMNS, ROWS, Sample

_STILL_TILE = 3.0  # levels that no tile may change by in the same content: more than rounding
_MOTION = 2.0  # mean change of a tile, in levels, that is motion
_STOP = 0.35
_STOP_S = 0.1  # between images; a vehicle that brakes stops less suddenly
_HELD_MEAN, _HELD_TILE = 1.2, 8.0
_PAST = 5

_STEP = 12.0  # levels that a tile changes by when dirt hits it
_STEP_RATIO = 4.0
_AT_ONCE_S = 0.25
_MOST_HIT = 0.5  # of the image: more is a change of exposure or a cut
_SETTLES_S, _LASTS_S = 0.15, 0.75
_LEFT_FRACTION = 0.85  # of what has settled: what moves on before a uniform background eats into it
_MOST_ALIKE = 0.4
_STAYS = 5.0
_ACTIVE_S = 1.0
_LEAST_ACTIVITY = 1.5

_ORDERS = tuple(itertools.permutations(range(3)))
_MATCH, _LEAST_GAIN, _LEAST_TURN = 0.5, 1.5, 4.0


class Frozen:
    """Whether the content is the same under new stamps.

    It is, if pixels change less than any sensor's noise makes them; and, to see through re-encoding, if all motion ends
    from one image to the next, and the image then stays as it was.
    """

    def __init__(self) -> None:
        self._past: deque[float] = deque(maxlen=_PAST)
        self._held: NDArray[np.float32] | None = None

    def update(self, last: Sample, now: Sample, since_s: float, still_change: float) -> bool:
        """Compare an image with the one before it, which came ``since_s`` earlier."""
        moved = np.abs(now.coarse - last.coarse)
        motion = float(np.abs(now.tiles - last.tiles).mean())
        if self._held is not None and not _is_held(np.abs(now.coarse - self._held)):
            self._held = None
            self._past.clear()
        if (
            self._held is None
            and since_s <= _STOP_S
            and len(self._past) == _PAST
            and min(self._past) >= _MOTION
            and motion <= _STOP * min(self._past)
            and _is_held(moved)
        ):
            self._held = now.coarse
        if self._held is None:
            self._past.append(motion)
        if self._held is not None:
            return True
        if now.lines.shape != last.lines.shape or float(np.abs(now.tiles - last.tiles).max()) > _STILL_TILE:
            return False
        return float(cv2.norm(now.lines, last.lines, cv2.NORM_L1)) <= still_change * now.lines.size


def _is_held(change: NDArray[np.float32]) -> bool:
    return float(change.mean()) <= _HELD_MEAN and float(change.max()) <= _HELD_TILE


@dataclass
class _Patch:
    """Tiles that were hit at once.

    Attributes:
        age_s: since they were hit.
        settled: how many of them stayed as they were for a moment; soft edges do not.
    """

    age_s: float = 0.0
    settled: int = 0


class Dirt:
    """Whether a part of the image has stopped changing while the rest goes on.

    A part counts that changed at once, unlike before, has been as it is since then, and is unlike what is around it. So
    the own bonnet does not: it is there from the start; nor a vehicle ahead, which comes little by little; nor a piece
    of the sky that comes in sight.
    """

    def __init__(self) -> None:
        self._activity = np.zeros((ROWS, COLUMNS), np.float32)  # mean change of each tile, in levels
        self._patch = np.zeros((ROWS, COLUMNS), np.int32)  # that each tile is of, or 0
        self._value = np.zeros((ROWS, COLUMNS), np.float32)  # of each tile when it was hit
        self._patches: dict[int, _Patch] = {}

    def update(self, last: Sample, now: Sample, since_s: float, least_fraction: float) -> bool:
        """Compare an image with the one before it, which came ``since_s`` earlier.

        Args:
            last, now: the images.
            since_s: between them; if it is long, nothing happens at once.
            least_fraction: of the image, that is dirt.
        """
        change = np.abs(now.tiles - last.tiles)
        self._patch[np.abs(now.tiles - self._value) > _STAYS] = 0
        for number, patch in list(self._patches.items()):
            here = self._patch == number
            area = int(np.count_nonzero(here))
            patch.age_s += since_s
            if not patch.settled and patch.age_s >= _SETTLES_S:
                patch.settled = area
            least = max(least_fraction * here.size, _LEFT_FRACTION * patch.settled)
            if area < least or not _stands_out(here, now.colours):
                self._patch[here] = 0
                del self._patches[number]
        if since_s <= _AT_ONCE_S:
            self._note_hits((change >= _STEP) & (change >= _STEP_RATIO * self._activity), now, least_fraction)
        keep = np.float32(np.exp(-since_s / _ACTIVE_S))
        self._activity = keep * self._activity + (1 - keep) * change
        others = self._activity[self._patch == 0]
        lasts = any(patch.age_s >= _LASTS_S for patch in self._patches.values())
        return lasts and others.size > 0 and float(np.median(others)) >= _LEAST_ACTIVITY

    def _note_hits(self, hit: NDArray[np.bool_], now: Sample, least_fraction: float) -> None:
        if not least_fraction * hit.size <= np.count_nonzero(hit) <= _MOST_HIT * hit.size:
            return
        count, labels, stats, _ = cv2.connectedComponentsWithStats(hit.view(np.uint8), connectivity=8)
        for label in range(1, count):
            if stats[label, cv2.CC_STAT_AREA] >= least_fraction * hit.size:
                number = next(each for each in itertools.count(1) if each not in self._patches)
                here = labels == label
                self._patch[here], self._value[here] = number, now.tiles[here]
                self._patches[number] = _Patch()


def _stands_out(here: NDArray[np.bool_], colours: NDArray[np.float32]) -> bool:
    """Whether hardly anything around a part of the image looks like it, and nothing can have left the image there."""
    if here[:, 0].any() or here[:, -1].any():
        return False
    near = cv2.dilate(here.view(np.uint8), np.ones((7, 7), np.uint8))
    around = near.view(np.bool_) & ~cv2.dilate(here.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    alike = (np.abs(colours[around] - np.median(colours[here], axis=0)) <= _STAYS).all(axis=-1)
    return bool(alike.size and alike.mean() <= _MOST_ALIKE)


class ChannelOrder:
    """Whether the colour channels have changed places since the first image."""

    def __init__(self) -> None:
        self._order = np.arange(3)

    def update(self, last: Sample, now: Sample) -> bool:
        """Compare an image with the one before it."""
        before, after = _chroma(last.coarse), _chroma(now.coarse)
        costs = [float(np.abs(after[..., list(order)] - before).mean()) for order in _ORDERS]
        best = int(np.argmin(costs))
        if costs[best] <= _MATCH * costs[0] and costs[0] - costs[best] >= _LEAST_GAIN:
            self._order = self._order[list(_ORDERS[best])]
        return bool((self._order != np.arange(3)).any())


class Orientation:
    """Whether the image has been turned upside down, or mirrored so, since the first one."""

    def __init__(self) -> None:
        self._turned = False

    def update(self, last: Sample, now: Sample) -> bool:
        """Compare an image with the one before it."""
        same = float(np.abs(now.coarse - last.coarse).mean())
        upside_down = now.coarse[::-1], now.coarse[::-1, ::-1]
        turned = min(float(np.abs(image - last.coarse).mean()) for image in upside_down)
        if turned <= _MATCH * same and same - turned >= _LEAST_TURN:
            self._turned = not self._turned
        return self._turned


def _chroma(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(colours - colours.mean(axis=-1, keepdims=True))
