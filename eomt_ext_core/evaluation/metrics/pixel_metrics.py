"""Pixel metrics of the road-anomaly benchmarks: AuPRC, FPR95, AUROC and the threshold of the best F1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL, FloatArray, check_frame
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evaluation.metrics.exact_scores import ExactScores
from eomt_ext_core.evaluation.metrics.score_histogram import ScoreCounts, ScoreHistogram

Mode = Literal["streaming", "exact"]


def exceeds(scores: FloatArray, threshold: float) -> npt.NDArray[np.bool_]:
    """Tell which scores are above a threshold, compared in float64: rounded to float32, it could equal one above it.

    >>> exceeds(np.array([0.5], np.float32), np.nextafter(0.5, 0))
    array([ True])
    """
    # NumPy 1 compares with a scalar in the type of the array, whatever the type of the scalar.
    return np.asarray(scores > np.array([threshold], np.float64), np.bool_)


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of a set of frames; fractions and rates in [0, 1]. Undefined metrics are NaN.

    ``auprc``: average precision, the sum over thresholds of (step in recall) x precision; ``fpr95``: false-positive
    rate at the highest threshold that finds at least 95 % of the anomalous pixels, not interpolated; ``auroc``: area
    under the ROC curve, ties counting one half; ``best_f1``: the largest F1 of any threshold, reached by the pixels
    with ``score > best_threshold`` (the highest such threshold); ``fpr95_threshold`` is meant in the same way, and
    ``fpr1_threshold``, which finds most, ``tpr_at_fpr1``, of all that mark at most 1 % of the normal pixels. Without
    anomalous pixels only the counts are defined; without normal pixels ``fpr95``, ``auroc`` and ``fpr1_threshold`` are
    not, nor is the last where every anomalous pixel lies below more than 1 % of the normal ones.

    ``*_error_bound``: how far the value can be, at most, from that of the unrounded scores: 0 in exact mode, and in
    streaming mode as long as the set has at most 2^18 distinct scores.
    """

    auprc: float
    fpr95: float
    auroc: float
    best_f1: float
    best_threshold: float
    fpr95_threshold: float
    fpr1_threshold: float
    tpr_at_fpr1: float
    anomaly_fraction: float
    num_valid: int
    num_anomalous: int
    auprc_error_bound: float
    fpr95_error_bound: float
    auroc_error_bound: float


@dataclass(frozen=True)
class PixelCurve:
    """Points of the precision-recall and ROC curves for ``score > threshold``, thresholds descending from infinity.

    All arrays are float64 of the same length. ``recall`` is also the true-positive rate. Rates with denominator 0 are
    NaN; ``precision`` of the first point, which predicts nothing, is 1.
    """

    threshold: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    false_positive_rate: npt.NDArray[np.float64]


class PixelMetrics:
    """Accumulate scores and labels frame by frame.

    ``mode="streaming"`` works in bounded memory (see ``score_histogram``), ``"exact"`` keeps every score: 4 bytes per
    valid pixel for float32, 8 for float64. In both modes the result is the same to the last digit for any order,
    batching and merging of the frames. Objects can be pickled, to merge those of several processes.

    >>> metrics = PixelMetrics()
    >>> metrics.update(np.array([0.9, 0.8, 0.4, 0.1]), np.array([1, 0, 1, 255]))
    >>> result = metrics.compute()
    >>> round(result.auprc, 4), result.fpr95, result.num_valid
    (0.8333, 1.0, 3)
    """

    def __init__(self, mode: Mode = "streaming") -> None:
        if mode not in ("streaming", "exact"):
            raise ConfigError(f"mode must be 'streaming' or 'exact', got {mode!r}")
        self.mode = mode
        self._store: ScoreHistogram | ExactScores = ScoreHistogram() if mode == "streaming" else ExactScores()

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Add pixels: ``scores`` float of any shape, larger is more anomalous; ``labels`` alike, 0, 1 or 255 (void).

        Raises ``DatasetError`` for shapes that differ, other label values, or scores that are not finite in valid
        pixels; nothing of such a frame is counted.
        """
        score_array, label_array = check_frame(scores, labels)
        self._store.add(score_array[label_array == NORMAL], score_array[label_array == ANOMALOUS])

    def merge(self, other: PixelMetrics) -> None:
        """Add everything counted by ``other``, which does not change. Raises ``ConfigError`` if the modes differ."""
        if self.mode != other.mode:
            raise ConfigError(f"merged pixel metrics must have the same mode, got {self.mode!r} and {other.mode!r}")
        self._store.merge(other._store)  # type: ignore[arg-type]  # the mode is the type of the store

    def compute(self) -> PixelResult:
        """Return the metrics of everything counted so far; more may be added afterwards."""
        return _Ranking(self._store.counts()).result()

    def curve(self, max_points: int = 1000) -> PixelCurve:
        """Return at most ``max_points`` (at least 4) points, evenly spaced in recall and in false-positive rate."""
        if max_points < 4:
            raise ConfigError(f"a curve needs at least 4 points, got max_points={max_points}")
        return _Ranking(self._store.counts()).curve(max_points)


class _Ranking:
    """Rows of pixels in descending order of score, and the pixels at or above each row."""

    def __init__(self, counts: ScoreCounts) -> None:
        self.normal = counts.normal[::-1]
        self.anomalous = counts.anomalous[::-1]
        self.exact = counts.exact[::-1]
        self.true_positives = np.cumsum(self.anomalous)
        self.false_positives = np.cumsum(self.normal)
        self.num_anomalous = int(self.anomalous.sum())
        self.num_normal = int(self.normal.sum())
        # `score > threshold` with the next number below a row includes that row, but nothing of the next one.
        below = counts.lowest.dtype.type(-np.inf)
        self.threshold = np.nextafter(counts.lowest[::-1], below).astype(np.float64)

    def result(self) -> PixelResult:
        num_valid = self.num_normal + self.num_anomalous
        auprc, auprc_bound = self._average_precision()
        fpr95, fpr95_threshold, fpr95_bound = self._fpr95()
        auroc, auroc_bound = self._auroc()
        best_f1, best_threshold = self._best_f1()
        fpr1_threshold, tpr_at_fpr1 = self._fpr1()
        return PixelResult(
            auprc=auprc,
            fpr95=fpr95,
            auroc=auroc,
            best_f1=best_f1,
            best_threshold=best_threshold,
            fpr95_threshold=fpr95_threshold,
            fpr1_threshold=fpr1_threshold,
            tpr_at_fpr1=tpr_at_fpr1,
            anomaly_fraction=self.num_anomalous / num_valid if num_valid else math.nan,
            num_valid=num_valid,
            num_anomalous=self.num_anomalous,
            auprc_error_bound=auprc_bound,
            fpr95_error_bound=fpr95_bound,
            auroc_error_bound=auroc_bound,
        )

    def curve(self, max_points: int) -> PixelCurve:
        true_positives = np.concatenate(([0], self.true_positives))
        false_positives = np.concatenate(([0], self.false_positives))
        rows = np.arange(true_positives.size)
        if rows.size > max_points:
            picked = [rows[[0, -1]]]
            for cumulated in (true_positives, false_positives):
                steps = np.linspace(0, cumulated[-1], max_points // 2 - 1)
                picked.append(np.searchsorted(cumulated, steps).clip(max=rows[-1]))
            rows = np.unique(np.concatenate(picked))
        true_positives, false_positives = true_positives[rows], false_positives[rows]
        predicted = true_positives + false_positives
        return PixelCurve(
            threshold=np.concatenate(([np.inf], self.threshold))[rows],
            precision=np.where(predicted > 0, true_positives / np.maximum(predicted, 1), 1.0),
            recall=_rate(true_positives, self.num_anomalous),
            false_positive_rate=_rate(false_positives, self.num_normal),
        )

    def _average_precision(self) -> tuple[float, float]:
        if not self.num_anomalous:
            return math.nan, math.nan
        rows = np.flatnonzero(self.anomalous)
        step, tp, fp = self.anomalous[rows], self.true_positives[rows], self.false_positives[rows]
        contribution = step * (tp / (tp + fp))
        auprc = float(contribution.sum()) / self.num_anomalous

        # A row that may hold several scores counts as one tie here. The true precision of each of its pixels is at most
        # tp / (tp + false positives above the row); that of its i-th pixel is at least t / (t + fp) with t = tp above
        # the row + i, and the sum of these is at least the integral of t / (t + fp) over the row.
        loose = ~self.exact[rows]
        contribution, step, tp, fp = contribution[loose], step[loose], tp[loose], fp[loose]
        highest = step * (tp / (tp + fp - self.normal[rows][loose]))
        above = np.maximum(tp - step + fp, 1)  # 0 only if the row is the first and holds no normal pixel
        lowest = np.where(fp > 0, step - fp * np.log1p(step / above), step)
        deviation = np.maximum(highest - contribution, contribution - lowest)
        return auprc, float(deviation.sum()) / self.num_anomalous

    def _fpr95(self) -> tuple[float, float, float]:
        if not self.num_anomalous or not self.num_normal:
            return math.nan, math.nan, math.nan
        row = int(np.argmax(20 * self.true_positives >= 19 * self.num_anomalous))
        uncertain = 0 if self.exact[row] else int(self.normal[row])
        rate = int(self.false_positives[row]) / self.num_normal
        return rate, float(self.threshold[row]), uncertain / self.num_normal

    def _fpr1(self) -> tuple[float, float]:
        rows = np.flatnonzero((self.anomalous > 0) & (100 * self.false_positives <= self.num_normal))
        if not rows.size or not self.num_normal:
            return math.nan, math.nan
        return float(self.threshold[rows[-1]]), int(self.true_positives[rows[-1]]) / self.num_anomalous

    def _auroc(self) -> tuple[float, float]:
        if not self.num_anomalous or not self.num_normal:
            return math.nan, math.nan
        pairs = float(self.num_anomalous) * self.num_normal
        ranked_above = self.true_positives - 0.5 * self.anomalous
        tied = self.normal[~self.exact].astype(np.float64) @ self.anomalous[~self.exact].astype(np.float64)
        return float(self.normal.astype(np.float64) @ ranked_above) / pairs, 0.5 * float(tied) / pairs

    def _best_f1(self) -> tuple[float, float]:
        if not self.num_anomalous:
            return math.nan, math.nan
        f1 = 2 * self.true_positives / (self.true_positives + self.false_positives + self.num_anomalous)
        row = int(np.argmax(f1))
        return float(f1[row]), float(self.threshold[row])


def _rate(counts: npt.NDArray[Any], total: int) -> npt.NDArray[np.float64]:
    return counts / total if total else np.full(counts.shape, np.nan)
