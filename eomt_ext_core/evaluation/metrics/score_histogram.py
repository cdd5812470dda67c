"""Histogram of normal and anomalous pixels over the score, in bounded memory and independent of the order of frames.

The ranking metrics (average precision, FPR95, AUROC) need the number of normal and anomalous pixels at each score.
``ScoreHistogram`` keeps them in a sorted table. It is exact for up to ``max_rows`` distinct scores. Beyond that a row
is a cell: all scores that differ only in their last ``shift`` bits. ``shift`` is the smallest number of bits for which
at most ``max_rows`` cells are occupied. It can only grow as pixels are added, and a coarser cell is the sum of finer
ones. So the counts are the same for any batching, order and merging of the frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eomt_ext_core.datasets.labels import FloatArray
from eomt_ext_core.errors import ConfigError

IntArray = npt.NDArray[np.int64]

_BLOCK = 1 << 14  # pixels per pass: the temporaries stay in the cache
_SMALLEST, _LARGEST = 2.0**-256, 2.0**256  # scores beyond are clipped to these
_OFFSET, _HALF, _ONE = np.array([_SMALLEST, 0.5, 1.0]).view(np.int64)


@dataclass(frozen=True)
class ScoreCounts:
    """Pixel counts in ascending order of score: a row for each distinct score, or for each cell of scores.

    ``lowest``: the smallest score in the row (float32 if all scores fit into it, else float64); ``normal``,
    ``anomalous``: int64 counts; ``exact``: whether the row holds a single score.
    """

    lowest: FloatArray
    normal: IntArray
    anomalous: IntArray
    exact: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Rows:
    """A table, or part of one: (N,) lowest and highest score of each row, and its normal and anomalous pixels."""

    lowest: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float64]
    normal: IntArray
    anomalous: IntArray

    def joined(self, shift: int) -> _Rows:
        """Sort the rows, and add up the rows of each cell."""
        order = np.argsort(self.lowest, kind="stable")  # merges sorted parts in linear time
        starts = _starts(_cells(self.lowest[order], shift))
        if starts.size == self.lowest.size:
            return _Rows(*(column[order] for column in vars(self).values()))
        sums = (np.add.reduceat(column[order], starts) for column in (self.normal, self.anomalous))
        return _Rows(self.lowest[order][starts], np.maximum.reduceat(self.highest[order], starts), *sums)


class ScoreHistogram:
    """Count any number of pixels by score; exact for up to ``max_rows`` distinct scores.

    ``max_rows``: rows of the table, 32 bytes each. With the default it takes about 145 MB, temporaries included, for
    any number of pixels.
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
        """Add the counts of ``other``, which does not change. Raises ``ConfigError`` if ``max_rows`` differ."""
        if self.max_rows != other.max_rows:
            raise ConfigError(
                f"merged score histograms must have the same max_rows, got {self.max_rows} and {other.max_rows}"
            )
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
        """Join all parts into a table, which must not be changed, with cells as fine as the limit allows."""
        none = _Rows(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
        columns = zip(*(vars(part).values() for part in [*self._parts, none]), strict=True)
        table = _Rows(*(np.concatenate(column) for column in columns)).joined(self._shift)
        if table.lowest.size > self.max_rows:
            cells = _cells(table.lowest, 0)
            differing = (cells[1:] ^ cells[:-1]).view(np.uint64)  # rows stay apart while one of these bits is kept
            self._shift = int(np.partition(differing, -self.max_rows)[-self.max_rows]).bit_length()
            table = table.joined(self._shift)
        self._parts = [table]
        return table


def run_lengths(ascending: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the distinct values of a sorted array and the number of times each occurs."""
    starts = _starts(ascending)
    return ascending[starts], np.diff(starts, append=ascending.size)


def _starts(ascending: npt.NDArray[np.floating | np.integer]) -> IntArray:
    """Return the start of each run of equal values in a sorted array."""
    is_first = np.ones(ascending.size, dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    return np.flatnonzero(is_first).astype(np.int64, copy=False)


def _cells(ascending: npt.NDArray[np.float64], shift: int) -> IntArray:
    """Number the cells of sorted scores: the bits of each score as an ascending integer, without the last ``shift``.

    From 0.5 to 1 these are the bits of 1 - x, descending, and likewise below 0. A sigmoid saturates at 1 as it does at
    0, but floating point has finer steps only at 0.
    """
    zero = np.searchsorted(ascending, 0.0)
    below, above = _bits(-ascending[:zero][::-1]), _bits(ascending[zero:])
    cells: IntArray = np.concatenate((-below[::-1], above)) >> shift
    return cells


def _bits(ascending: npt.NDArray[np.float64]) -> IntArray:
    """Return ascending integers for sorted magnitudes, as fine below 1 as floats are above 0."""
    bits: IntArray = np.clip(ascending, _SMALLEST, _LARGEST).view(np.int64)
    half, one = np.searchsorted(ascending, (0.5, 1.0))
    bits[half:one] = 2 * _HALF - _OFFSET - (1 - ascending[half:one]).view(np.int64)
    bits[one:] += _HALF - _OFFSET - (_ONE - _HALF)
    bits -= _OFFSET
    return bits
