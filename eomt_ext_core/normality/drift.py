"""Whether a drive is still like the one that a threshold was fitted on: a sequential test with a bounded error.

Each image has a strangeness. An image is strange if it exceeds the k-th largest of the n calibration images: for k with
P(Binomial(n, τ) ≥ k) ≥ 1 − α/2, at most a fraction τ of the images of such a drive are, with a confidence of 1 − α/2
(a distribution-free tolerance limit, Wilks 1941). A fifth is bet, each time, on a strange image: the stake multiplies
by 0.8, or by 0.8 + 0.2/τ, with an expectation of at most 1. Less is no reason for an alarm, as a stretch of road is
always a little unlike the average. The test bets from each image on, with weights that add up to 1, so that a long
ordinary drive does not hide a change. The sum is a non-negative supermartingale that starts at 1, and ever exceeds 2/α
with a probability of at most α/2 (Ville's inequality). Together that is α, for images that are independent and like
those of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from eomt_ext_core.errors import CheckpointError, DatasetError

MOST_REFERENCE = 2000
PERIOD_S = 1.0
_FRACTION, _STAKE = 0.05, 0.2
_MOST = 1e300
LEAST_REFERENCE = 20  # of fewer, too large a fraction may be exceeded


@dataclass(frozen=True)
class DriftReference:
    """The strangeness of each of some calibration images.

    Raises:
        CheckpointError: if there are too few or too many, or one is no finite number.
    """

    strangeness: tuple[float, ...]

    def __post_init__(self) -> None:
        if not LEAST_REFERENCE <= len(self.strangeness) <= MOST_REFERENCE:
            raise CheckpointError(
                f"a drift reference must hold {LEAST_REFERENCE} to {MOST_REFERENCE} images, got {len(self.strangeness)}"
            )
        for value in self.strangeness:
            if isinstance(value, bool) or not isinstance(value, float | int) or not math.isfinite(value):
                raise CheckpointError(f"a drift reference must hold finite numbers, got {value!r}")

    @classmethod
    def of_images(cls, strangeness: Sequence[float]) -> DriftReference:
        """Keep an even choice of calibration images.

        Raises:
            DatasetError: if there are too few.
        """
        if len(strangeness) < LEAST_REFERENCE:
            raise DatasetError(
                f"to tell when a drive is another one takes at least {LEAST_REFERENCE} held-out images, got "
                f"{len(strangeness)}"
            )
        step = max(1, math.ceil(len(strangeness) / MOST_REFERENCE))
        return cls(tuple(strangeness[::step]))

    def to_json(self) -> list[float]:
        """What :meth:`of_json` reads."""
        return [round(value, 6) for value in self.strangeness]

    @classmethod
    def of_json(cls, stored: Any) -> DriftReference:
        """Read what a file says.

        Raises:
            CheckpointError: if it is no such list.
        """
        if not isinstance(stored, list):
            raise CheckpointError(f"a drift reference must be a list of numbers, got {type(stored).__name__}")
        return cls(tuple(stored))


class DriftTest:
    """Watch a drive for images that are stranger than those of the calibration.

    Args:
        reference: the calibration.
        alpha: bound on the probability that a drive like the calibration is ever reported.

    Attributes:
        num_images: watched so far.
        evidence: the supermartingale, which is compared with 2/α.
        since: the image, from 1 on, since which the drive is another one by the best guess; None before an alarm.
        since_s: when that image was taken, if they were added with their time.
    """

    def __init__(self, reference: DriftReference, alpha: float) -> None:
        rank, fraction = _rank(len(reference.strangeness), alpha / 2)
        self._alpha = alpha
        self._strange_above = sorted(reference.strangeness)[-rank]
        self._gain = 1 - _STAKE + _STAKE / fraction
        self._bets = 0.0
        self._best, self._start, self._start_s = 0.0, 1, 0.0
        self.num_images = 0
        self.evidence = 1.0
        self.since: int | None = None
        self.since_s = 0.0

    @property
    def has_drifted(self) -> bool:
        """Whether there was an alarm; it stays."""
        return self.since is not None

    def add(self, strangeness: float, time_s: float = 0.0) -> None:
        """Watch an image, taken at a time."""
        self.num_images += 1
        gain = self._gain if strangeness > self._strange_above else 1 - _STAKE
        weight = 1 / (self.num_images * (self.num_images + 1))
        if weight > self._best:
            self._best, self._start, self._start_s = weight, self.num_images, time_s
        self._best = min(self._best * gain, _MOST)
        self._bets = min((self._bets + weight) * gain, _MOST)
        self.evidence = self._bets + 1 / (self.num_images + 1)  # what has not been bet yet
        if self.since is None and self.evidence >= 2 / self._alpha:
            self.since, self.since_s = self._start, self._start_s


def _rank(count: int, risk: float) -> tuple[int, float]:
    """The rank from above of the limit of strange images, and the fraction of images that exceeds it at most.

    >>> _rank(20, 0.005)[0], _rank(1000, 0.005)
    (1, (33, 0.05))
    """
    rank, below = 0, 0.0  # below: P(Binomial < rank + 1)
    while True:
        below += math.comb(count, rank) * _FRACTION**rank * (1 - _FRACTION) ** (count - rank)
        if below > risk:
            break
        rank += 1
    return (rank, _FRACTION) if rank else (1, 1 - risk ** (1 / count))


class DriftWatch:
    """Watch the images of a camera by their stamps, one in a second: images that follow closer are hardly new ones.

    Args:
        reference: the calibration.
        alpha: as of :class:`DriftTest`.
    """

    def __init__(self, reference: DriftReference, alpha: float) -> None:
        self.test = DriftTest(reference, alpha)
        self._last_s: float | None = None

    def is_due(self, time_s: float) -> bool:
        """Whether an image of this stamp is watched: a second after the last one, or of a clock that was set back."""
        return self._last_s is None or not 0 <= time_s - self._last_s < PERIOD_S

    def add(self, strangeness: float, time_s: float) -> None:
        """Watch an image."""
        self._last_s = time_s
        self.test.add(strangeness, time_s)

    @property
    def finding(self) -> str:
        """What there is to tell: empty before an alarm."""
        if not self.test.has_drifted:
            return ""
        since = datetime.fromtimestamp(self.test.since_s, timezone.utc).isoformat(sep=" ", timespec="seconds")
        return (
            f"since {since} the images are stranger than in the drive that was learnt from: its thresholds and rates "
            "no longer apply; learn normality anew"
        )
