"""Segment metrics of SegmentMeIfYouCan: how well whole obstacles are found, independent of their size.

Chan et al., "SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation", NeurIPS 2021 Datasets and Benchmarks
(arXiv 2104.14812), with the conventions of the benchmark's public code
(github.com/SegmentMeIfYouCan/road-anomaly-benchmark).

The threshold is that of the best pixel F1 over the whole set. So the metrics need two passes over the frames: the first
with ``PixelMetrics``, the second with its ``best_threshold``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from eomt_ext_core.datasets.labels import ANOMALOUS, VOID, check_frame
from eomt_ext_core.datasets.tracks import SegmentTrack
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation.metrics.pixel_metrics import exceeds

IntArray = npt.NDArray[np.int64]

# tau = 0.25, 0.30, … 0.75, compared as whole numbers: sIoU >= tau without rounding. (The benchmark's code compares with
# linspace, whose 0.6 is 0.6000000000000001: an sIoU or PPV of exactly 3/5 falls on the other side there.)
_TWENTIETHS = range(5, 16)
SIOU_THRESHOLDS = tuple(step / 20 for step in _TWENTIETHS)


@dataclass(frozen=True)
class SegmentResult:
    """Segment metrics of a set of frames.

    ``mean_f1``: F1 = 2 TP / (2 TP + FN + FP) averaged over ``siou_thresholds``, NaN if there is no component at all;
    ``mean_siou``: mean over all ground-truth components, NaN without any; ``mean_ppv``: mean over all predicted
    components, NaN without any; ``f1``, ``true_positives``, ``false_negatives``, ``false_positives``: one value per
    threshold. ``score_threshold`` is the threshold that cut the scores.
    """

    track: str
    score_threshold: float
    mean_f1: float
    mean_siou: float
    mean_ppv: float
    num_ground_truth: int
    num_predicted: int
    siou_thresholds: tuple[float, ...]
    f1: tuple[float, ...]
    true_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]
    false_positives: tuple[int, ...]


class SegmentMetrics:
    """Accumulate components frame by frame, in a second pass over a set.

    ``score_threshold``: pixels with ``score > score_threshold`` are predicted anomalous; use
    ``PixelResult.best_threshold`` of the whole set. Keeps 16 bytes for each component. The result is the same to the
    last digit for any order and merging of the frames.
    """

    def __init__(self, track: SegmentTrack, score_threshold: float) -> None:
        if math.isnan(score_threshold):
            raise ConfigError(
                "score_threshold must be a number, got NaN: a set without anomalous pixels has no best threshold"
            )
        self.track = track
        self.score_threshold = float(score_threshold)
        self._siou: list[tuple[IntArray, IntArray]] = []
        self._ppv: list[tuple[IntArray, IntArray]] = []

    def update(self, scores: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Add one frame: ``scores`` (H, W) float, larger is more anomalous; ``labels`` (H, W), 0, 1 or 255 (void).

        Raises ``DatasetError`` for other shapes, other label values, or scores that are not finite in valid pixels.
        """
        score_array, label_array = check_frame(scores, labels)
        if score_array.ndim != 2:
            raise DatasetError(f"segment metrics take one frame (H, W) at a time, got shape {score_array.shape}")
        if score_array.size == 0:
            return
        predicted = exceeds(score_array, self.score_threshold) & (label_array != VOID)
        siou, ppv = match_components(predicted, label_array == ANOMALOUS, self.track)
        self._siou.append(siou)
        self._ppv.append(ppv)

    def merge(self, other: SegmentMetrics) -> None:
        """Add the components of ``other``. Raises ``ConfigError`` if track or threshold differ."""
        if (self.track, self.score_threshold) != (other.track, other.score_threshold):
            raise ConfigError(
                "merged segment metrics must have the same track and threshold, "
                f"got {self.track.name!r} at {self.score_threshold} and {other.track.name!r} at {other.score_threshold}"
            )
        self._siou = self._siou + other._siou
        self._ppv = self._ppv + other._ppv

    def compute(self) -> SegmentResult:
        """Return the metrics of everything added so far."""
        intersection, union = _concatenate(self._siou)
        covered, size = _concatenate(self._ppv)
        tp = [int(np.count_nonzero(20 * intersection >= step * union)) for step in _TWENTIETHS]
        fn = [intersection.size - hits for hits in tp]
        fp = [int(np.count_nonzero(20 * covered < step * size)) for step in _TWENTIETHS]
        f1 = [
            2 * hits / (2 * hits + missed + false) if hits + missed + false else math.nan
            for hits, missed, false in zip(tp, fn, fp, strict=True)
        ]
        return SegmentResult(
            track=self.track.name,
            score_threshold=self.score_threshold,
            mean_f1=math.fsum(f1) / len(f1),
            mean_siou=_mean_ratio(intersection, union),
            mean_ppv=_mean_ratio(covered, size),
            num_ground_truth=intersection.size,
            num_predicted=covered.size,
            siou_thresholds=SIOU_THRESHOLDS,
            f1=tuple(f1),
            true_positives=tuple(tp),
            false_negatives=tuple(fn),
            false_positives=tuple(fp),
        )


def match_components(
    predicted: npt.NDArray[np.bool_], anomalous: npt.NDArray[np.bool_], track: SegmentTrack
) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
    """Compare the 8-connected components of two masks (H, W) of a frame, both without void pixels.

    Returns the intersection and adjusted union of every ground-truth component (their quotient is sIoU), and the
    covered pixels and size of every predicted component (their quotient is PPV), all in pixels.

    The adjusted union of a ground-truth component is its size plus the false-positive pixels of all predicted
    components that touch it: their pixels on other ground-truth components do not count. As in the benchmark's code,
    ground-truth components below the minimal size are void in the comparison, but predicted components are found and
    measured before that void is removed from them.
    """
    ground_truth, ground_truth_px = _components(anomalous)
    prediction, prediction_px = _components(predicted)
    compared = (ground_truth_px >= track.min_ground_truth_px)[ground_truth] | ~anomalous
    prediction[~((prediction_px >= track.min_predicted_px)[prediction] & predicted & compared)] = 0
    ground_truth[~compared] = 0

    num_predictions = prediction_px.size
    size = np.bincount(prediction.ravel(), minlength=num_predictions)
    both = (ground_truth > 0) & (prediction > 0)
    pairs = ground_truth[both].astype(np.int64) * num_predictions + prediction[both]
    pairs, overlap = np.unique(pairs, return_counts=True)
    pair_truth, pair_prediction = np.divmod(pairs, num_predictions)

    covered = _sum_by(pair_prediction, overlap, num_predictions)
    false_px = (size - covered)[pair_prediction]
    intersection = _sum_by(pair_truth, overlap, ground_truth_px.size)
    union = ground_truth_px + _sum_by(pair_truth, false_px, ground_truth_px.size)

    counted = ground_truth_px >= track.min_ground_truth_px
    occurring = size > 0
    counted[0] = occurring[0] = False
    return (intersection[counted], union[counted]), (covered[occurring], size[occurring])


def _components(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], IntArray]:
    """Number the components of a mask, 0 for the background; returns the numbers and the size of each in pixels."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(numbers, dtype=np.int32), stats[:, cv2.CC_STAT_AREA].astype(np.int64)


def _sum_by(group: IntArray, values: IntArray, num_groups: int) -> IntArray:
    # Whole numbers below 2^53: float64 weights are exact.
    return np.bincount(group, weights=values, minlength=num_groups).astype(np.int64)


def _concatenate(parts: list[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    empty = np.empty(0, dtype=np.int64)
    first, last = zip((empty, empty), *parts, strict=True)
    return np.concatenate(first), np.concatenate(last)


def _mean_ratio(numerator: IntArray, denominator: IntArray) -> float:
    # fsum rounds once, at the end, so that the order of the components does not matter.
    return math.fsum((numerator / denominator).tolist()) / numerator.size if numerator.size else math.nan
