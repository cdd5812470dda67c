"""The newest measurements of a stream, for their rate and percentiles, in memory that does not grow."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Percentiles(NamedTuple):
    """Median and 99th percentile of a measurement in seconds."""

    p50_s: float
    p99_s: float


class SlidingWindow:
    """Hold the newest events of the last seconds in a ring, each with some values. Not thread-safe.

    Args:
        columns: how many values an event has, in seconds; NaN if one is unknown.
        span_s: how far back an event counts.
        capacity: most events that are held; of a faster stream only these count.

    >>> window = SlidingWindow(columns=1, span_s=10.0)
    >>> for second in range(20): window.add(float(second), 0.1 * second)
    >>> window.rate_hz(now_s=19.0, since_s=0.0)
    1.0
    >>> round(window.percentiles(now_s=19.0)[0].p50_s, 3)
    1.45
    """

    def __init__(self, columns: int, span_s: float, capacity: int = 1024) -> None:
        self._span_s = span_s
        self._times_s = np.full(capacity, -math.inf)
        self._values = np.empty((capacity, columns))
        self._next = 0

    def add(self, now_s: float, *values: float) -> None:
        """Add an event; it replaces the oldest."""
        self._times_s[self._next] = now_s
        if values:
            self._values[self._next] = values
        self._next = (self._next + 1) % len(self._times_s)

    def clear(self) -> None:
        """Drop all events."""
        self._times_s.fill(-math.inf)

    def rate_hz(self, now_s: float, since_s: float) -> float:
        """Give the events a second, over the span or since the start if that is shorter, but over a second at least."""
        recent = self._recent(now_s)
        covered_s = min(self._span_s, now_s - since_s)
        if recent.all():  # the ring is too short for the span
            return float((len(recent) - 1) / max(now_s - self._times_s.min(), 1e-9))
        return float(recent.sum() / max(covered_s, 1.0))

    def percentiles(self, now_s: float) -> list[Percentiles | None]:
        """Give median and 99th percentile of each value, linear between neighbours; None if no event has it."""
        values: NDArray[np.float64] = self._values[self._recent(now_s)]
        known = (column[np.isfinite(column)] for column in values.T)
        return [Percentiles(*map(float, np.percentile(column, (50, 99)))) if len(column) else None for column in known]

    def _recent(self, now_s: float) -> NDArray[np.bool_]:
        recent: NDArray[np.bool_] = self._times_s > now_s - self._span_s
        return recent
