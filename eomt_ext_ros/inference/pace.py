"""When the next batch begins beside the one that the device computes."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

_REMEMBERED = 8  # batches, of which the fastest counts
_EARLY = 0.05  # of the computation: for a host that is held up, and to find out that the device is faster


class Pace:
    """Tell when to take the next images: late, so that they are new, and early enough for the device to have work.

    The device is taken to compute batches one after another, each for as long as the fastest of the last ones that had
    as many windows. All times are in seconds on one clock.

    >>> pace = Pace()
    >>> pace.submitted(began_s=0.0, now_s=1.0)
    >>> pace.begin_at_s(submitted_s=1.0, windows=2)  # nothing is known yet
    -inf
    >>> pace.collected(submitted_s=1.0, now_s=11.0, windows=2)
    >>> pace.begin_at_s(submitted_s=12.0, windows=2)  # 95 % of 10 s, and a second to begin
    20.5
    """

    def __init__(self) -> None:
        self._beginning_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._computing_s: dict[int, deque[float]] = {}
        self._collected_s = -math.inf

    def submitted(self, began_s: float, now_s: float) -> None:
        """Note how long it took to begin a batch."""
        self._beginning_s.append(now_s - began_s)

    def collected(self, submitted_s: float, now_s: float, windows: int) -> None:
        """Note that a batch has come, which the device began when the one before had come."""
        known_s = self._computing_s.setdefault(windows, deque(maxlen=_REMEMBERED))
        known_s.append(now_s - max(submitted_s, self._collected_s))
        self._collected_s = now_s

    def begin_at_s(self, submitted_s: float, windows: int) -> float:
        """When to begin beside a batch that was submitted then; in the past for at once."""
        if windows not in self._computing_s:
            return -math.inf
        computed_s = max(submitted_s, self._collected_s) + (1 - _EARLY) * min(self._computing_s[windows])
        return computed_s - median(self._beginning_s)
