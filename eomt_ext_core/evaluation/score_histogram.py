"""Counts of normal and anomalous pixels per score, in bounded memory and independent of the order of the frames.

The ranking metrics (average precision, FPR95, AUROC) need, for every score, how many pixels of either kind have it.
``ScoreHistogram`` keeps a sorted table of them. While there are at most ``max_rows`` distinct scores, it is exact.
Beyond that a row is a cell: the scores whose bits agree but for the last ``shift``, the smallest number with which the
cells that occur are at most ``max_rows``. That number can only grow as pixels are added, and a coarser cell is the sum
of finer ones: batching, order and merging leave no trace, to the last count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eomt_ext_core.datasets.labels import FloatArray
from eomt_ext_core.errors import ConfigError

IntArray = npt.NDArray[np.int64]

_BLOCK = 1 << 14  # pixels per pass: the temporaries stay in the cache
_SMALLEST, _LARGEST = 2.0**-256, 2.0**256  # what lies beyond shares a cell with them
_OFFSET, _HALF, _ONE = np.array([_SMALLEST, 0.5, 1.0]).view(np.int64)


@dataclass(frozen=True)
class ScoreCounts:
    """Pixel counts per score, ascending: each row is one distinct score, or one cell of neighbouring scores.

    ``lowest``: the smallest score in the row (float32 if every score is one, else float64); ``normal``, ``anomalous``:
    int64 counts; ``exact``: whether the row holds one score only.
    """

    lowest: FloatArray
    normal: IntArray
    anomalous: IntArray
    exact: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Rows:
    """A table, or a part of one: (N,) lowest and highest score of each row, and how many of either kind are in it."""

    lowest: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float64]
    normal: IntArray
    anomalous: IntArray

    def joined(self, shift: int) -> _Rows:
        """Sort the rows and sum up those of one cell."""
        order = np.argsort(self.lowest, kind="stable")  # merges sorted parts in linear time
        starts = _starts(_cells(self.lowest[order], shift))
        if starts.size == self.lowest.size:
            return _Rows(*(column[order] for column in vars(self).values()))
        sums = (np.add.reduceat(column[order], starts) for column in (self.normal, self.anomalous))
        return _Rows(self.lowest[order][starts], np.maximum.reduceat(self.highest[order], starts), *sums)


class ScoreHistogram:
    """Counts per score for any number of pixels; see the module's text for what is exact.

    ``max_rows``: rows of the table, 32 bytes each. With the default all of it, temporaries included, stays at about
    145 MB for any number of pixels.
    """

    def __init__(self, max_rows: int = 1 << 18) -> None:
        if max_rows < 1:
            raise ConfigError(f"max_rows must be at least 1, got {max_rows}")
        self.max_rows = max_rows
        self._shift = 0
        self._parts: list[_Rows] = []

    def add(self, normal: FloatArray, anomalous: FloatArray) -> None:
        """Count finite scores, float32 or float64, one dimension each."""
        for scores, is_anomalous in ((normal, False), (anomalous, True)):
            for start in range(0, scores.size, self.max_rows):
                ascending = np.sort(scores[start : start + self.max_rows])
                for first in range(0, ascending.size, _BLOCK):
                    self._parts.append(self._rows(ascending[first : first + _BLOCK].astype(np.float64), is_anomalous))
                if sum(part.lowest.size for part in self._parts) > 4 * self.max_rows:
                    self._table()

    def _rows(self, ascending: npt.NDArray[np.float64], is_anomalous: bool) -> _Rows:
        starts = _starts(_cells(ascending, self._shift))
        ends = np.append(starts[1:], ascending.size)
        counts, none = ends - starts, np.zeros_like(starts)
        return _Rows(ascending[starts], ascending[ends - 1], *((none, counts) if is_anomalous else (counts, none)))

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of ``other``, which is left as it is. Raises ``ConfigError`` when the limits differ."""
        if self.max_rows != other.max_rows:
            raise ConfigError("score histograms merge only with the same max_rows")
        self._parts.append(other._table())
        self._shift = max(self._shift, other._shift)
        self._table()

    def counts(self) -> ScoreCounts:
        """Return the rows in ascending order of score."""
        table = self._table()
        with np.errstate(over="ignore"):
            narrow = table.lowest.astype(np.float32)
        lowest = narrow if (narrow == table.lowest).all() else table.lowest
        return ScoreCounts(lowest, table.normal, table.anomalous, table.lowest == table.highest)

    def _table(self) -> _Rows:
        """Join all parts, in cells as fine as the limit allows; the table must not be written to."""
        none = _Rows(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
        columns = zip(*(vars(part).values() for part in [*self._parts, none]), strict=True)
        table = _Rows(*(np.concatenate(column) for column in columns)).joined(self._shift)
        if table.lowest.size > self.max_rows:
            cells = _cells(table.lowest, 0)
            differing = (cells[1:] ^ cells[:-1]).view(np.uint64)  # rows stay apart as long as one of these bits stays
            self._shift = int(np.partition(differing, -self.max_rows)[-self.max_rows]).bit_length()
            table = table.joined(self._shift)
        self._parts = [table]
        return table


def run_lengths(ascending: FloatArray) -> tuple[FloatArray, IntArray]:
    """Distinct values of a sorted array and how often each occurs."""
    starts = _starts(ascending)
    return ascending[starts], np.diff(starts, append=ascending.size)


def _starts(ascending: npt.NDArray[np.floating | np.integer]) -> IntArray:
    """Where runs of one value begin in a sorted array."""
    is_first = np.ones(ascending.size, dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    return np.flatnonzero(is_first).astype(np.int64, copy=False)


def _cells(ascending: npt.NDArray[np.float64], shift: int) -> IntArray:
    """Number the cells of sorted scores: their bits as whole numbers that ascend with them, without the last ``shift``.

    From 0.5 to 1 these are the bits of 1 - x, descending, and likewise below 0: a sigmoid crowds at 1 as it crowds at
    0, where floating point itself is finer.
    """
    zero = np.searchsorted(ascending, 0.0)
    below, above = _bits(-ascending[:zero][::-1]), _bits(ascending[zero:])
    cells: IntArray = np.concatenate((-below[::-1], above)) >> shift
    return cells


def _bits(ascending: npt.NDArray[np.float64]) -> IntArray:
    """Whole numbers that ascend with sorted magnitudes, neighbours far apart where a float's are, and below 1."""
    bits: IntArray = np.clip(ascending, _SMALLEST, _LARGEST).view(np.int64)
    half, one = np.searchsorted(ascending, (0.5, 1.0))
    bits[half:one] = 2 * _HALF - _OFFSET - (1 - ascending[half:one]).view(np.int64)
    bits[one:] += _HALF - _OFFSET - (_ONE - _HALF)
    bits -= _OFFSET
    return bits
