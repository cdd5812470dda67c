"""Bootstrap intervals over frames (Efron & Tibshirani 1993, percentiles): frames are drawn anew, with replacement.

Pixels of a frame are not independent of each other, frames of a set rather are; so what is drawn is whole frames. The
threshold of the component metrics stays that of the set.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.intervals.frame_counts import FloatArray, FrameCounts

METRICS = ("auprc", "fpr95", "mean_siou", "mean_ppv", "mean_f1")
NUM_RESAMPLES = 2000
_MOST_NUMBERS = 10_000_000  # of a table of resamples; a day's recording gets fewer of them
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The ends of an interval; NaN if hardly any resample defines the metric."""

    low: float
    high: float


def resamples(num_frames: int, number: int = NUM_RESAMPLES, seed: int = 0) -> FloatArray:
    """Draw how often each frame is taken: (number, num_frames), each row adds up to ``num_frames``."""
    generator = np.random.default_rng(seed)
    number = min(number, max(100, _MOST_NUMBERS // max(1, num_frames)))
    return generator.multinomial(num_frames, np.full(num_frames, 1 / num_frames), number).astype(np.float64)


def metrics_of(frames: Sequence[FrameCounts], weights: FloatArray) -> dict[str, FloatArray]:
    """Compute the metrics of a set for each way of weighting its frames.

    Args:
        frames: F labelled frames with the same edges.
        weights: (R, F).

    Returns:
        by name of ``METRICS``: (R,), NaN where undefined. All pixels between two edges count as one tie.
    """
    anomalous, normal = (
        np.cumsum(weights @ np.stack([getattr(frame, name) for frame in frames]), axis=1)
        for name in ("anomalous", "normal")
    )
    siou, ppv, truths, predicted = (
        weights @ np.array([getattr(frame, name) for frame in frames])
        for name in ("siou_sum", "ppv_sum", "num_ground_truth", "num_predicted")
    )
    hits, false = (
        weights @ np.stack([getattr(frame, name) for frame in frames]) for name in ("true_positives", "false_positives")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.diff(anomalous, axis=1, prepend=0)
        precision = np.where(steps > 0, anomalous / (anomalous + normal), 0)
        rows = np.argmax(20 * anomalous >= 19 * anomalous[:, -1:], axis=1)
        f1 = 2 * hits / (hits + truths[:, None] + false)
        return {
            "auprc": (steps * precision).sum(axis=1) / anomalous[:, -1],
            "fpr95": np.where(anomalous[:, -1] > 0, normal[np.arange(len(rows)), rows] / normal[:, -1], np.nan),
            "mean_siou": siou / truths,
            "mean_ppv": ppv / predicted,
            "mean_f1": f1.mean(axis=1),
        }


def interval(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> Interval:
    """Give the percentiles that hold the middle of resampled values."""
    beyond = 50 * (1 - confidence)
    if np.isnan(values).mean() > 1 - confidence:
        return Interval(float("nan"), float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanpercentile(values, [beyond, 100 - beyond])
    return Interval(float(low), float(high))
