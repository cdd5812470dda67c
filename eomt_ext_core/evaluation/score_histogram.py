"""Counts of normal and anomalous pixels per score, in bounded memory and independent of the order of the frames.

The ranking metrics (average precision, FPR95, AUROC) need, for every score, how many pixels of either kind have it.
``ScoreHistogram`` keeps these counts in two stages, and what it holds is a function of the multiset of scores alone:

1. Exact. A sorted table of distinct scores, as long as there are at most ``max_distinct`` of them. However close the
   scores lie together, nothing is rounded.
2. Cells. Beyond that, each score is taken as float32 and counted in a cell. A page is the set of float32 values
   that share the upper 16 bits (sign, exponent, 7 bits of the mantissa); every page that occurs is cut into equal
   cells, all pages equally finely, except that the pages below 1 (and above -1) get finer ones, as 1 - x shrinks:
   a sigmoid crowds there as it crowds at 0, where float32 itself is finer. The cells are as fine as ``max_cells``
   allows for the pages that occur: single float32 values for scores within an octave or two, 2^-14 of the score (6e-5
   of a logit) for probabilities from 1e-8 to 1.

Both decisions, number of distinct scores and set of pages, can only grow as pixels are added, and a coarser cell is
the sum of finer ones. Therefore batching, order and merging leave no trace, to the last count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eomt_ext_core.datasets.labels import FloatArray
from eomt_ext_core.errors import ConfigError

IntArray = npt.NDArray[np.int64]

_SUB_BITS = 16
_NUM_PAGES = 1 << 16
_COARSEST_LEVEL = 32
_UNTOUCHED = -(1 << 40)
_BLOCK = 1 << 17  # pixels per pass: the temporaries stay in the cache
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ScoreCounts:
    """Pixel counts per score, ascending: each row is one distinct score, or one cell of neighbouring scores.

    ``lowest``: the smallest score that the row can hold (float32 if every score is one, else float64); ``normal``,
    ``anomalous``: int64 counts; ``exact``: whether the row holds one score only.
    """

    lowest: FloatArray
    normal: IntArray
    anomalous: IntArray
    exact: npt.NDArray[np.bool_]


class ScoreHistogram:
    """Counts per score for any number of pixels; see the module's text for what is exact.

    ``max_distinct``: distinct scores held exactly (24 bytes each); ``max_cells``: cells beyond that (16 bytes each, at
    least 65536). With the defaults all of it, temporaries included, stays at about 110 MB for any number of pixels.
    """

    def __init__(self, max_distinct: int = 1 << 19, max_cells: int = 1 << 20) -> None:
        if max_cells < _NUM_PAGES:
            raise ConfigError(f"max_cells must be at least {_NUM_PAGES}, one per page of float32, got {max_cells}")
        self.max_distinct = max_distinct
        self.max_cells = max_cells
        self._distinct = _DistinctScores()
        self._cells: _FloatCells | None = None

    def add(self, normal: FloatArray, anomalous: FloatArray) -> None:
        """Count finite scores, float32 or float64, one dimension each."""
        for scores, is_anomalous in ((normal, False), (anomalous, True)):
            start = 0
            while start < scores.size:
                if self._cells is None:
                    self._distinct.add(scores[start : start + self.max_distinct], is_anomalous)
                    start += self.max_distinct
                    if self._distinct.num_pending > self.max_distinct:
                        self._bound()
                else:
                    self._cells.add(scores[start : start + self.max_cells], is_anomalous)
                    start += self.max_cells

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of ``other``, which is left as it is. Raises ``ConfigError`` when the limits differ."""
        if (self.max_distinct, self.max_cells) != (other.max_distinct, other.max_cells):
            raise ConfigError("score histograms merge only with the same max_distinct and max_cells")
        other._bound()
        self._bound()
        if other._cells is not None:
            self._coarsen().merge(other._cells)
        elif self._cells is not None:
            self._cells.add_table(*other._distinct.table())
        else:
            self._distinct.add_table(*other._distinct.table())
            self._bound()

    def counts(self) -> ScoreCounts:
        """Return the non-empty rows in ascending order of score."""
        self._bound()
        if self._cells is not None:
            return self._cells.counts()
        values, normal, anomalous = self._distinct.table()
        narrow, rounded = _as_float32(values)
        return ScoreCounts(values if rounded else narrow, normal, anomalous, np.ones(values.size, dtype=np.bool_))

    def _bound(self) -> None:
        if self._cells is None and self._distinct.table()[0].size > self.max_distinct:
            self._coarsen()

    def _coarsen(self) -> _FloatCells:
        if self._cells is None:
            self._cells = _FloatCells(self.max_cells)
            self._cells.add_table(*self._distinct.table())
            self._distinct = _DistinctScores()
        return self._cells


class _DistinctScores:
    """A sorted table of distinct float64 scores with their counts, and tables not yet summed into it."""

    def __init__(self) -> None:
        self._tables: list[tuple[npt.NDArray[np.float64], IntArray, IntArray]] = []
        self.num_pending = 0

    def add(self, scores: FloatArray, is_anomalous: bool) -> None:
        values, counts = run_lengths(np.sort(scores))
        none = np.zeros_like(counts)
        self.add_table(values.astype(np.float64), *((none, counts) if is_anomalous else (counts, none)))

    def add_table(self, values: npt.NDArray[np.float64], normal: IntArray, anomalous: IntArray) -> None:
        self._tables.append((values, normal, anomalous))
        self.num_pending += values.size

    def table(self) -> tuple[npt.NDArray[np.float64], IntArray, IntArray]:
        """Distinct scores ascending, normal counts, anomalous counts; must not be written to."""
        if len(self._tables) != 1:
            empty = (np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
            values, normal, anomalous = (np.concatenate(column) for column in zip(*self._tables, empty, strict=True))
            order = np.argsort(values, kind="stable")  # merges the sorted tables in linear time
            distinct, lengths = run_lengths(values[order])
            starts = np.cumsum(lengths) - lengths
            if starts.size:
                normal, anomalous = (np.add.reduceat(counts[order], starts) for counts in (normal, anomalous))
            self._tables = [(distinct.astype(np.float64, copy=False), normal, anomalous)]
        self.num_pending = 0
        return self._tables[0]


class _FloatCells:
    """Counts of float32 scores in cells: 65536 pages, each untouched or cut into ``2^(16 - shift)`` equal cells."""

    def __init__(self, max_cells: int) -> None:
        self._max_cells = max_cells
        self._rounded = False
        self._reset(level=0)

    def _reset(self, level: int) -> None:
        self._level = level
        self._shift = np.clip(level - _PAGE_FINENESS, 0, _SUB_BITS).astype(np.uint32)
        self._base = np.full(_NUM_PAGES, _UNTOUCHED, dtype=np.int64)
        self._num_cells = 0
        self._counts = np.zeros((2, self._max_cells), dtype=np.int64)

    def add(self, scores: FloatArray, is_anomalous: bool) -> None:
        bits = self._bits(scores)
        index = self._locate(bits)
        counts = self._counts[int(is_anomalous), : self._num_cells]
        if index.size < counts.size // 8:
            cells, added = np.unique(index, return_counts=True)
            counts[cells] += added
        else:
            counts += np.bincount(index, minlength=counts.size)

    def add_table(self, values: npt.NDArray[np.float64], normal: IntArray, anomalous: IntArray) -> None:
        self._add_counts(self._bits(values), normal, anomalous)

    def merge(self, other: _FloatCells) -> None:
        self._rounded |= other._rounded
        self._touch(other._base >= 0)
        self._add_counts(*other._occupied())

    def counts(self) -> ScoreCounts:
        bits, normal, anomalous = self._occupied()
        shift = self._shift[bits >> _SUB_BITS]
        widest = (np.uint32(1) << shift) - np.uint32(1)
        lowest = np.where(bits >> 31 == 1, bits | widest, bits).view(np.float32)  # below 0 bits grow downwards
        order = np.argsort(lowest)
        exact = (shift[order] == 0) & (not self._rounded)
        return ScoreCounts(lowest[order], normal[order], anomalous[order], exact)

    def _bits(self, scores: FloatArray) -> npt.NDArray[np.uint32]:
        narrow, rounded = _as_float32(scores)
        self._rounded |= rounded
        positive_zero: npt.NDArray[np.float32] = narrow + np.float32(0)  # -0 + 0 = +0: one zero
        return positive_zero.view(np.uint32)

    def _locate(self, bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
        """Cell of each score; pages met for the first time are laid out."""
        index = np.empty(bits.size, dtype=np.intp)
        start = 0
        while start < bits.size:
            block = bits[start : start + _BLOCK]
            page = (block >> _SUB_BITS).astype(np.intp)
            cell = index[start : start + _BLOCK]
            np.add(self._base[page], (block & 0xFFFF) >> self._shift[page], out=cell)
            if cell.min() >= 0:
                start += _BLOCK
            elif self._touch(np.bincount(page, minlength=_NUM_PAGES) > 0):
                start = 0
        return index

    def _touch(self, pages: npt.NDArray[np.bool_]) -> bool:
        """Lay out the pages of a mask (65536,), coarser if the cells would be too many: True if all have moved."""
        touched = pages | (self._base >= 0)
        level = self._level
        while _page_sizes(level)[touched].sum() > self._max_cells:
            level += 1
        if level > self._level:
            occupied = self._occupied()
            self._reset(level)
            self._append(touched)
            self._add_counts(*occupied)
            return True
        self._append(touched & (self._base < 0))
        return False

    def _append(self, pages: npt.NDArray[np.bool_]) -> None:
        sizes = _page_sizes(self._level)[pages]
        ends = self._num_cells + np.cumsum(sizes)
        self._base[pages] = ends - sizes
        self._num_cells += int(sizes.sum())

    def _add_counts(self, bits: npt.NDArray[np.uint32], normal: IntArray, anomalous: IntArray) -> None:
        index = self._locate(bits)
        for row, counts in enumerate((normal, anomalous)):
            # The sums are whole numbers below 2^53, so float64 weights are exact.
            sums = np.bincount(index, weights=counts, minlength=self._num_cells)
            self._counts[row, : self._num_cells] += sums.astype(np.int64)

    def _occupied(self) -> tuple[npt.NDArray[np.uint32], IntArray, IntArray]:
        """Bits of the first score, normal count and anomalous count of each cell that is not empty."""
        pages = np.flatnonzero(self._base >= 0)
        pages = pages[np.argsort(self._base[pages])]
        page = np.repeat(pages, _page_sizes(self._level)[pages])
        cells = np.flatnonzero(self._counts[:, : self._num_cells].any(axis=0))
        page = page[cells]
        sub = (cells - self._base[page]) << self._shift[page].astype(np.int64)
        bits = ((page << _SUB_BITS) | sub).astype(np.uint32)
        return bits, self._counts[0, cells], self._counts[1, cells]


def run_lengths(ascending: FloatArray) -> tuple[FloatArray, IntArray]:
    """Distinct values of a sorted array and how often each occurs."""
    is_first = np.ones(ascending.size, dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    return ascending[starts], np.diff(starts, append=ascending.size).astype(np.int64)


def _as_float32(scores: FloatArray) -> tuple[npt.NDArray[np.float32], bool]:
    """Scores rounded to float32 (beyond its range: to its largest), and whether that changed any."""
    if scores.dtype == np.float32:
        return scores.astype(np.float32, copy=False), False
    narrow = np.clip(scores, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)
    return narrow, bool((narrow != scores).any())


def _page_sizes(level: int) -> IntArray:
    return np.left_shift(1, _SUB_BITS - np.clip(level - _PAGE_FINENESS, 0, _SUB_BITS), dtype=np.int64)


def _page_fineness() -> IntArray:
    """How many times each page is cut in two beyond the others: about log2 of 0.5 / (1 - |x|) for |x| in [0.5, 1)."""
    fineness = np.zeros(_NUM_PAGES, dtype=np.int64)
    for step in range(127):  # page 0x3f00 + step starts at 0.5 + step / 256
        fineness[[0x3F00 + step, 0xBF00 + step]] = 7 - (127 - step).bit_length()
    # Saturated scores: the last page before 1 or -1, and those that begin with 1, -1 and 0, which many pixels equal.
    fineness[[0x3F7F, 0xBF7F, 0x3F80, 0xBF80, 0x0000]] = _SUB_BITS
    return fineness


_PAGE_FINENESS = _page_fineness()
