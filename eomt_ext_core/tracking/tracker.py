"""The obstacles of one camera, followed from image to image.

Written here, on NumPy alone: of the libraries, trackers brings thirty packages, norfair holds NumPy below 2, and motpy
has not been released since 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.obstacles import Obstacle, ObstacleFrame, TrackState

from .association import pairs
from .box_motion import BoxMotion
from .tracking_config import TrackingConfig

MOST_FOLLOWED = 500
"""More obstacles of an image than this are not followed; those listed first are."""

_LEAST_STEP_S = 0.01  # images with one stamp
_MOST_EVIDENCE = 4.0  # of one image, in log odds: no single image is more certain than 0.98
_UNSEEN_EVIDENCE = -1.5  # of an image in which it is not seen: one in five misses what is there
_MOST_PX = 1e6


@dataclass
class _Track:
    """An obstacle that is followed.

    Attributes:
        log_odds: the evidence for it.
        num_seen: images that it was seen in.
        num_unseen: images since then.
        last: as it was seen last.
    """

    track_id: int
    motion: BoxMotion
    log_odds: float = 0.0
    num_seen: int = 0
    num_unseen: int = 0
    is_confirmed: bool = False
    last: Obstacle | None = None

    @property
    def coasts(self) -> bool:
        return self.is_confirmed and self.num_unseen > 0

    def is_in(self, mask: NDArray[np.bool_]) -> bool:
        """Whether its centre is expected in the image."""
        (x, y), (height, width) = self.motion.box[:2], mask.shape
        return bool(0 <= x <= width and 0 <= y <= height)

    def see(self, obstacle: Obstacle, box: NDArray[np.float64], threshold: float, config: TrackingConfig) -> None:
        """Take up what it is in an image."""
        self.motion.correct(box)
        self.num_seen, self.num_unseen, self.last = self.num_seen + 1, 0, obstacle
        log_odds = _log_odds(obstacle.score) - _log_odds(threshold)
        self.weigh(min(max(log_odds, -_MOST_EVIDENCE), _MOST_EVIDENCE), config)

    def weigh(self, log_odds: float, config: TrackingConfig) -> None:
        """Add the evidence of an image to what is remembered."""
        self.log_odds = self.log_odds * math.exp(-1 / config.memory_frames) + log_odds
        needed = config.keep_evidence if self.is_confirmed else config.confirm_evidence
        self.is_confirmed = self.num_seen >= config.confirm_frames and _probability(self.log_odds) >= needed

    def obstacle(self, seen: Obstacle, size_hw: tuple[int, int]) -> Obstacle:
        """What was seen of it, with what is known of it; its box is that of the track and holds what was seen."""
        x, y, width, height = seen.box_xywh
        return self._known(seen, self._box(size_hw, (x, y, x + width, y + height)))

    def expected(self, size_hw: tuple[int, int]) -> Obstacle:
        """The obstacle where it is expected, without a pixel in the mask; its score is that of the last time."""
        assert self.last is not None, "a track begins with what was seen"
        x, y = self.motion.box[:2].tolist()
        last, left, top = self.last, min(int(x), size_hw[1] - 1), min(int(y), size_hw[0] - 1)
        last = replace(last, area_px=0, component=-1, centroid_xy=(x, y))
        return self._known(last, self._box(size_hw, (left, top, left + 1, top + 1)))

    def _known(self, obstacle: Obstacle, box_xywh: tuple[int, int, int, int]) -> Obstacle:
        state: TrackState = "coasting" if self.coasts else "confirmed" if self.is_confirmed else "tentative"
        evidence = _probability(self.log_odds)
        return replace(obstacle, box_xywh=box_xywh, track_id=self.track_id, state=state, evidence=evidence)

    def _box(self, size_hw: tuple[int, int], inner: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Its box in the image, around another one: left, top, width and height."""
        (x, y, width, height), (left, top, right, bottom) = self.motion.box.tolist(), inner
        left, right = min(left, max(0, round(x - width / 2))), max(right, min(size_hw[1], round(x + width / 2)))
        top, bottom = min(top, max(0, round(y - height / 2))), max(bottom, min(size_hw[0], round(y + height / 2)))
        return left, top, right - left, bottom - top


class Tracker:
    """Give the obstacles of a camera ids that they keep from image to image.

    Obstacles are paired with those of the images before by overlap and distance, where a filter of constant velocity
    expects them. The evidence for each is the sum of the log odds of its scores, older images counting less; an image
    in which it is not seen counts against it. An obstacle is ``tentative`` until it has been seen in
    ``confirm_frames`` images and its evidence reaches ``confirm_evidence``; then ``confirmed``, and ``coasting`` while
    it is not seen, until its evidence falls below ``keep_evidence``. Its box moves with it and shrinks slowly, for what
    is seen of an obstacle comes and goes in parts.

    It is driven by the stamps of the images. If they jump back, or ahead by more than ``reset_after_s``, all obstacles
    are new ones. No id is given twice.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._num_ids = 0
        self._stamp_s = -math.inf

    def follow(
        self, found: ObstacleFrame, stamp_s: float, config: TrackingConfig, *, threshold: float = 0.5
    ) -> ObstacleFrame:
        """Recognise the obstacles of the next image.

        Args:
            found: in the image.
            stamp_s: of the image, in seconds.
            config: how obstacles are followed.
            threshold: of the scores; one of this height says nothing.

        Returns:
            the same obstacles with their ids, states, evidence and boxes, and the confirmed ones that are not among
            them as ``coasting``. An obstacle beyond the first ``MOST_FOLLOWED``, or whose box or score is no number,
            stays as it is.
        """
        step_s = stamp_s - self._stamp_s
        self._stamp_s = stamp_s
        if not 0 <= step_s <= config.reset_after_s:
            self._tracks, step_s = [], 0.0
        for track in self._tracks:
            track.motion.predict(max(step_s, _LEAST_STEP_S))
            track.num_unseen += 1

        usable, boxes = _boxes(found.obstacles)
        expected = np.array([track.motion.box for track in self._tracks]).reshape(-1, 4)
        track_of = {usable[column]: self._tracks[row] for row, column in pairs(expected, boxes)}
        for index, box in zip(usable, boxes, strict=True):
            if index not in track_of:
                track_of[index] = self._new_track(box)
            track_of[index].see(found.obstacles[index], box, threshold, config)
        for track in self._tracks:
            if track.num_unseen:
                track.weigh(_UNSEEN_EVIDENCE, config)
        self._tracks = [
            track
            for track in self._tracks
            if track.num_unseen == 0 or (track.num_unseen <= config.coast_frames and track.is_in(found.mask))
        ]

        size_hw = found.mask.shape[0], found.mask.shape[1]
        return replace(
            found,
            obstacles=[
                track_of[i].obstacle(each, size_hw) if i in track_of else each for i, each in enumerate(found.obstacles)
            ],
            coasting=[track.expected(size_hw) for track in self._tracks if track.coasts],
        )

    def _new_track(self, box: NDArray[np.float64]) -> _Track:
        self._num_ids += 1
        self._tracks.append(_Track(self._num_ids, BoxMotion(box)))
        return self._tracks[-1]


def _boxes(obstacles: Sequence[Obstacle]) -> tuple[list[int], NDArray[np.float64]]:
    """Indices of the obstacles that can be followed, and their boxes: (N, 4), x and y of the centre, width, height."""
    figures = np.array([(*each.box_xywh, each.score) for each in obstacles[:MOST_FOLLOWED]], np.float64).reshape(-1, 5)
    boxes, scores = figures[:, :4], figures[:, 4]
    usable = (np.abs(boxes) < _MOST_PX).all(1) & (boxes[:, 2:] > 0).all(1) & (scores >= 0) & (scores <= 1)
    boxes = boxes[usable]
    boxes[:, :2] += boxes[:, 2:] / 2
    return np.flatnonzero(usable).tolist(), boxes


def _probability(log_odds: float) -> float:
    return (1 + math.tanh(log_odds / 2)) / 2  # which does not overflow, as exp does


def _log_odds(probability: float) -> float:
    probability = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(probability / (1 - probability))
