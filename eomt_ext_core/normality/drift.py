"""Whether a drive is still like the one that a threshold was fitted on: a sequential test with a bounded error.

Each image has a strangeness. Its conformal p-value, its rank among those of the calibration and of the drive so far, is
uniform and independent of the earlier ones as long as all are exchangeable (Vovk, Gammerman & Shafer 2005). A fifth is
bet, each time, on an image that is among the strangest fiftieth: the stake multiplies by 0.8, or by 10.8, with the
expectation 1. Less is no reason for an alarm, as a stretch of road is always a little unlike the average. The test bets
from each image on, with weights that add up to 1, so that a long ordinary drive does not hide a change: the sum is a
non-negative martingale of expectation 1, and exceeds 1/α ever with a probability of at most α (Ville's inequality).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from eomt_ext_core.errors import CheckpointError, DatasetError

MOST_REFERENCE = 2000
PERIOD_S = 1.0
_STRANGE, _STAKE = 0.02, 0.2
LEAST_REFERENCE = 20  # fewer cannot make a p-value small
_MOST_REMEMBERED = 20_000


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
        evidence: the martingale; the largest so far is what is compared with 1/α.
        since: the image, from 1 on, since which the drive is another one by the best guess; None before an alarm.
        since_s: when that image was taken, if they were added with their time.
    """

    def __init__(self, reference: DriftReference, alpha: float) -> None:
        self._alpha = alpha
        self._seen = sorted(reference.strangeness)
        self._ties = np.random.default_rng(0)
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
        gain = 1 - _STAKE + (_STAKE / _STRANGE if self._p_value(strangeness) <= _STRANGE else 0.0)
        weight = 1 / (self.num_images * (self.num_images + 1))
        if weight > self._best:
            self._best, self._start, self._start_s = weight, self.num_images, time_s
        self._best = min(self._best * gain, 1e300)
        self._bets = min((self._bets + weight) * gain, 1e300)
        self.evidence = self._bets + 1 / (self.num_images + 1)  # what has not been bet yet
        if self.since is None and self.evidence >= 1 / self._alpha:
            self.since, self.since_s = self._start, self._start_s

    def _p_value(self, strangeness: float) -> float:
        """Rank among all so far, ties broken at random; the image is then one of them."""
        low, high = bisect.bisect_left(self._seen, strangeness), bisect.bisect_right(self._seen, strangeness)
        above, equal, count = len(self._seen) - high, high - low, len(self._seen)
        if count < _MOST_REMEMBERED:
            self._seen.insert(high, strangeness)
        return (above + float(self._ties.random()) * (equal + 1)) / (count + 1)


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
