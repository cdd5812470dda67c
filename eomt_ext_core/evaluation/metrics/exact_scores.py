"""Storage of every score, for metrics without rounding; memory grows with the number of pixels."""

from __future__ import annotations

import numpy as np

from eomt_ext_core.datasets.labels import FloatArray
from eomt_ext_core.evaluation.metrics.score_histogram import ScoreCounts, run_lengths


class ExactScores:
    """Keeps 4 bytes per valid pixel (8 for float64 scores), and about as much again while counting."""

    def __init__(self) -> None:
        self._normal: list[FloatArray] = []
        self._anomalous: list[FloatArray] = []

    def add(self, normal: FloatArray, anomalous: FloatArray) -> None:
        """Keep finite scores, float32 or float64, one dimension each; the arrays must not be changed afterwards."""
        self._normal.append(normal)
        self._anomalous.append(anomalous)

    def merge(self, other: ExactScores) -> None:
        """Add the scores of ``other``, which does not change."""
        self._normal = self._normal + other._normal
        self._anomalous = self._anomalous + other._anomalous

    def counts(self) -> ScoreCounts:
        """Return a row for each distinct score of an anomalous pixel, and one for the normal pixels between two rows.

        The order of the normal pixels between two anomalous scores does not affect the ranking metrics.
        """
        dtypes = {scores.dtype for scores in self._normal + self._anomalous}
        dtype = np.dtype(np.float64 if np.dtype(np.float64) in dtypes else np.float32)
        none = np.empty(0, dtype=dtype)
        normal = np.concatenate([*self._normal, none], dtype=dtype)
        normal.sort()
        values, num_anomalous = run_lengths(np.sort(np.concatenate([*self._anomalous, none], dtype=dtype)))
        first = np.searchsorted(normal, values, side="left")
        last = np.searchsorted(normal, values, side="right")

        gap_starts = np.concatenate(([0], last))
        gap_ends = np.concatenate((first, [normal.size]))
        rows = 2 * values.size + 1
        lowest, count_normal = np.empty(rows, dtype=dtype), np.empty(rows, dtype=np.int64)
        count_anomalous = np.zeros(rows, dtype=np.int64)
        lowest[0::2] = np.append(normal, none.dtype.type(0))[gap_starts]
        lowest[1::2] = values
        count_normal[0::2] = gap_ends - gap_starts
        count_normal[1::2] = last - first
        count_anomalous[1::2] = num_anomalous
        occupied = (count_normal > 0) | (count_anomalous > 0)
        exact = np.ones(int(occupied.sum()), dtype=np.bool_)
        return ScoreCounts(lowest[occupied], count_normal[occupied], count_anomalous[occupied], exact)
