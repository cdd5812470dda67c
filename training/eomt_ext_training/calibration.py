"""Fit scale and shift of an anomaly score on held-out frames, and choose a threshold that keeps a promise.

Both work on a fixed grid of logits, so that any number of frames fits into the same few kilobytes.

The threshold follows conformal risk control (Angelopoulos et al. 2022): with the loss of a frame being the fraction of
its anomalous pixels that the mask misses, which grows with the threshold and never exceeds 1, the largest threshold
with ``(n · mean loss + 1) / (n + 1) ≤ α`` has an expected loss of at most α on a further frame that is exchangeable
with the n frames. Scale and shift may come from the same frames: they do not change which logits lie above which."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL, check_frame
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation import CalibrationResult

BIN_WIDTH = 1.0 / 64.0
LARGEST_LOGIT = 64.0  # beyond it a probability is 0 or 1 to 28 digits
_NUM_EDGES = round(2 * LARGEST_LOGIT / BIN_WIDTH) + 1
_EDGES = np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, _NUM_EDGES)


@dataclass(frozen=True)
class PlattScaling:
    """probability = sigmoid(``scale`` · logit + ``shift``); ``nll``: mean negative log-likelihood per pixel, nats."""

    scale: float
    shift: float
    nll: float


@dataclass(frozen=True)
class ScoreGrid:
    """Where the values of a score lie on the grid of logits: at ``stretch`` · (score − ``centre``).

    The head's logits lie there as they are. Baselines are spread out, as theirs are within a small part of it: the
    softmax of a semantic map, which lies from 0 to 1, is almost flat.

    >>> ScoreGrid.of("entropy_prob", num_classes=19).spread(np.array([math.log(19)])).item()
    64.0
    """

    centre: float = 0.0
    stretch: float = 1.0

    @classmethod
    def of(cls, score: str, num_classes: int) -> ScoreGrid:
        """Give the grid of a score: what a working model has, from what is surely known to a semantic map of 0."""
        most = math.log(max(num_classes, 2))
        ranges = {
            "msp": (0.5, 1.0),
            "max_logit": (-1.0, 0.0),
            "entropy": (0.0, most),
            "energy": (-most - 0.5, -most),
            "rba": (-2.0, 0.0),
            "msp_prob": (0.0, 1.0),
            "entropy_prob": (0.0, most),
        }
        if score not in ranges:
            return cls()
        low, high = ranges[score]
        return cls((low + high) / 2, 2 * LARGEST_LOGIT / (high - low))

    def spread(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give the places of scores, of any shape, on the grid."""
        return self.stretch * (scores.astype(np.float64) - self.centre)

    def unspread(self, places: torch.Tensor) -> torch.Tensor:
        """Give the scores of places."""
        return places / self.stretch + self.centre

    def of_scores(self, scaling: PlattScaling) -> PlattScaling:
        """Give a scaling of places as one of scores."""
        scale = scaling.scale * self.stretch
        return PlattScaling(scale, scaling.shift - scale * self.centre, scaling.nll)


class LogitCounts:
    """What calibration needs to know of any number of frames: counts of logits on a grid, and fractions missed.

    The logits of a bin are represented by their mean, which changes a likelihood by less than 1e-5.
    """

    def __init__(self) -> None:
        # Bin k holds the logits in (edge k − 1, edge k]; the last one those above all edges.
        self._counts = np.zeros((2, _NUM_EDGES + 1))
        self._sums = np.zeros((2, _NUM_EDGES + 1))
        self._missed = np.zeros(_NUM_EDGES)
        self.num_frames = 0

    def add(self, logits: ArrayLike, labels: ArrayLike) -> None:
        """Add a frame.

        Args:
            logits: (H, W) float.
            labels: (H, W): 0 normal, 1 anomalous, 255 void. A frame without anomalous pixels counts for scale and
                shift, but not for the threshold.

        Raises:
            DatasetError: if shapes differ, a label is another, or a logit is not finite.
        """
        logit_array, label_array = check_frame(logits, labels)
        for row, kind in enumerate((NORMAL, ANOMALOUS)):
            values = np.clip(logit_array[label_array == kind].astype(np.float64), -LARGEST_LOGIT, LARGEST_LOGIT + 1)
            bins = np.searchsorted(_EDGES, values, side="left")
            counts = np.bincount(bins, minlength=_NUM_EDGES + 1)
            self._counts[row] += counts
            self._sums[row] += np.bincount(bins, weights=values, minlength=_NUM_EDGES + 1)
            if kind == ANOMALOUS and values.size:
                self._missed += np.cumsum(counts[:-1]) / values.size
                self.num_frames += 1

    def fit(self) -> PlattScaling:
        """Minimise the negative log-likelihood over scale and shift (Platt 1999), by L-BFGS.

        Raises:
            DatasetError: without pixels of both kinds, or if anomalous pixels have lower logits than others.
        """
        filled = self._counts > 0
        if not filled.any(axis=1).all():
            raise DatasetError("calibration needs normal and anomalous pixels, got only one kind")
        weights = torch.from_numpy(self._counts[filled] / self._counts.sum())
        values = torch.from_numpy(self._sums[filled] / self._counts[filled])
        targets = torch.from_numpy(np.nonzero(filled)[0].astype(np.float64))
        parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [parameters], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            predicted = parameters[0] * values + parameters[1]
            total = (F.binary_cross_entropy_with_logits(predicted, targets, reduction="none") * weights).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        scale, shift = parameters.tolist()
        if not (math.isfinite(scale) and math.isfinite(shift) and scale > 0):
            raise DatasetError(
                f"scores must rise with anomaly, but on these frames their best scale is {scale:.3g}: train the head "
                "for longer or on more data like these, or calibrate another score"
            )
        return PlattScaling(scale, shift, float(loss().detach()))

    def reliability(self, scale: float, shift: float, num_bins: int = 15) -> CalibrationResult:
        """Reliability and expected calibration error of sigmoid(``scale`` · logit + ``shift``).

        As ``eomt_ext_core.evaluation.Calibration`` would find it pixel by pixel, but for the rounding to the grid.
        """
        return self.reliability_of(lambda logits: (scale * logits + shift).sigmoid(), num_bins)

    def reliability_of(
        self, to_probability: Callable[[torch.Tensor], torch.Tensor], num_bins: int = 15
    ) -> CalibrationResult:
        """Reliability of the probabilities that places on the grid stand for, (N,) float64 each."""
        pixels, said, anomalous = np.zeros(num_bins), np.zeros(num_bins), np.zeros(num_bins)
        for row in (0, 1):
            filled = self._counts[row] > 0
            counts = self._counts[row, filled]
            probability = to_probability(torch.from_numpy(self._sums[row, filled] / counts)).numpy()
            bins = np.minimum((probability * num_bins).astype(np.intp), num_bins - 1)
            pixels += np.bincount(bins, weights=counts, minlength=num_bins)
            said += np.bincount(bins, weights=counts * probability, minlength=num_bins)
            anomalous += np.bincount(bins, weights=counts * row, minlength=num_bins)
        total = pixels.sum()
        divisor = np.where(pixels > 0, pixels, math.nan)
        return CalibrationResult(
            bin_edges=tuple(step / num_bins for step in range(num_bins + 1)),
            num_pixels=tuple(int(count) for count in pixels),
            mean_probability=tuple((said / divisor).tolist()),
            anomaly_fraction=tuple((anomalous / divisor).tolist()),
            ece=float(np.abs(said - anomalous).sum() / total) if total else math.nan,
        )

    def choose_logit_threshold(self, target_tpr: float) -> float:
        """The largest logit of the grid above which, in expectation, ``target_tpr`` of a frame's anomaly is found.

        Raises:
            ConfigError: if the target does not lie in (0, 1).
            DatasetError: if there are too few frames with anomalies for it.
        """
        alpha = 1 - _exact(target_tpr)
        require_frames(self.num_frames, target_tpr)
        # (n · mean loss + 1) / (n + 1) ≤ α; n · mean loss is the sum, which rises with the threshold.
        allowed = float(alpha * (self.num_frames + 1) - 1) + 1e-9
        within = np.flatnonzero(self._missed <= allowed)
        return float(_EDGES[within[-1]]) if within.size else -math.inf

    def mean_miss_share(self, logit: float) -> float:
        """Mean over frames of the fraction of anomalous pixels at or below an edge of the grid."""
        return float(self._missed[np.searchsorted(_EDGES, logit)] / self.num_frames)


class MaskRates:
    """What masks hold of the anomalous and of the normal pixels of any number of frames."""

    def __init__(self) -> None:
        self._per_frame: list[float] = []
        self._held = {ANOMALOUS: 0, NORMAL: 0}
        self._all = {ANOMALOUS: 0, NORMAL: 0}

    def add(self, mask: NDArray[np.bool_], labels: NDArray[np.uint8]) -> None:
        """Add a frame: (H, W) mask and labels."""
        for kind in (ANOMALOUS, NORMAL):
            held = mask[labels == kind]
            self._held[kind] += int(held.sum())
            self._all[kind] += held.size
            if kind == ANOMALOUS and held.size:
                self._per_frame.append(float(held.mean()))

    def result(self) -> dict[str, float]:
        """``mean_tpr`` over frames with anomalies, ``pixel_tpr`` and ``pixel_fpr`` over all pixels.

        Raises:
            DatasetError: if there was no anomalous or no normal pixel.
        """
        if not all(self._all.values()):
            raise DatasetError("the frames to check on must show normal and anomalous pixels, got only one kind")
        return {
            "mean_tpr": float(np.mean(self._per_frame)),
            "pixel_tpr": self._held[ANOMALOUS] / self._all[ANOMALOUS],
            "pixel_fpr": self._held[NORMAL] / self._all[NORMAL],
        }


def frames_needed(target_tpr: float) -> int:
    """The fewest frames that allow a target at all: with no miss, 1 / (n + 1) ≤ α needs n ≥ 1/α − 1.

    >>> frames_needed(0.95), frames_needed(0.9)
    (19, 9)
    """
    return max(1, math.ceil(1 / (1 - _exact(target_tpr))) - 1)


def require_frames(num_frames: int, target_tpr: float) -> None:
    """Check that there are as many frames as a target needs.

    Raises:
        ConfigError: if the target does not lie in (0, 1).
        DatasetError: if there are too few.
    """
    needed = frames_needed(target_tpr)
    if num_frames < needed:
        raise DatasetError(
            f"a target of {target_tpr:g} needs at least {needed} frames with anomalies, got {num_frames}: "
            "give more frames or a lower target"
        )


def threshold_of(logit: float, scaling: PlattScaling) -> float:
    """A logit threshold as one of the calibrated probability, in float32's favour of finding.

    The engine computes probabilities in float32: rounding may put a pixel just above the logit on the threshold, so
    that is lowered by a little more than rounding can do, and kept below 1, where nothing is above it.
    """
    probability = 1.0 / (1.0 + math.exp(-min(max(scaling.scale * logit + scaling.shift, -700.0), 15.0)))
    return max(0.0, probability * (1.0 - 1e-5)) if logit > -math.inf else 0.0


def _exact(target_tpr: float) -> Fraction:
    """The decimal that was written, not its binary neighbour: 1 − 0.9 would be a little less than 1/10."""
    if not 0.0 < target_tpr < 1.0:
        raise ConfigError(f"target_tpr must lie between 0 and 1, got {target_tpr}")
    return Fraction(repr(float(target_tpr)))
