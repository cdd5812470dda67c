"""Calibration of an anomaly score to a probability, with its threshold.

Training with a positive weight w shifts the head's logit by about log w. A checkpoint may contain a scale and a shift
that undo this (Platt 1999), and a threshold chosen on the same data; likewise for baselines, whose scores have no scale
of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.files import printable

INFO_KEY = "calibration"
SCORES_KEY = "score_calibrations"  # by name, of scores other than the head
LARGEST_LOGIT = 1000.0  # far beyond the logits of a trained head
SMALLEST_SPREAD = 0.01
_LONGEST_NAME = 80


@dataclass(frozen=True)
class LogitCalibration:
    """The calibration of a score: probability = sigmoid(``scale`` · score + ``shift``); the head's score is its logit.

    ``threshold``: pixels with a probability above it are anomalous. ``origin``: what it was fitted on, for people.

    Raises:
        CheckpointError: if ``scale`` is not positive, a number is not finite or out of range, or no logit of a trained
            head reaches the threshold.

    >>> import torch
    >>> LogitCalibration(scale=1.0, shift=-math.log(10), threshold=0.2).probability(torch.tensor([math.log(10)])).item()
    0.5
    """

    scale: float
    shift: float
    threshold: float
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("shift", self.shift), ("threshold", self.threshold)):
            if isinstance(value, bool) or not isinstance(value, float | int) or not math.isfinite(value):
                raise CheckpointError(f"a calibration's {name} must be a finite number, got {value!r}")
        if self.scale <= 0:
            raise CheckpointError(f"a calibration's scale must be positive, got {self.scale}")
        if not 0.0 <= self.threshold < 1.0:
            raise CheckpointError(f"a calibration's threshold must lie in [0, 1), got {self.threshold}")
        low, middle, high = self.probability(torch.tensor([-LARGEST_LOGIT, 0.0, LARGEST_LOGIT])).tolist()
        if not (low <= middle <= high and high > self.threshold and high - low >= SMALLEST_SPREAD):
            raise CheckpointError(
                f"a calibration must map a logit of {LARGEST_LOGIT:g} above its threshold {self.threshold:g}, and at "
                f"least {SMALLEST_SPREAD:g} above one of -{LARGEST_LOGIT:g}; scale {self.scale:g} and shift "
                f"{self.shift:g} map them to {high:g} and {low:g}: calibrate the checkpoint again"
            )

    def probability(self, logits: Tensor) -> Tensor:
        """Convert anomaly logits of any shape to probabilities."""
        return (self.scale * logits + self.shift).sigmoid()

    @classmethod
    def of(cls, info: Mapping[str, Any], score: str = "head") -> LogitCalibration | None:
        """Read the calibration of a score from a checkpoint's ``info``; None if there is none.

        Raises:
            CheckpointError: if it is incomplete or out of range.
        """
        others = info.get(SCORES_KEY, {})
        if not isinstance(others, Mapping):
            raise CheckpointError(f"{SCORES_KEY} must be a calibration by score, got {others!r}")
        stored = info.get(INFO_KEY) if score == "head" else others.get(score)
        if stored is None:
            return None
        if not isinstance(stored, Mapping) or not {"scale", "shift", "threshold"} <= set(stored):
            raise CheckpointError(
                f"calibration of score {score}: a calibration must have scale, shift and threshold, got {stored!r}"
            )
        try:
            return cls(stored["scale"], stored["shift"], stored["threshold"], _origin(stored))
        except CheckpointError as error:
            raise CheckpointError(f"calibration of score {score}: {error}") from None


def _origin(stored: Mapping[str, Any]) -> str:
    """Say what a calibration was fitted on, as far as the checkpoint tells: `calibrated on street, target TPR 0.95`."""
    data, target = stored.get("data"), stored.get("target_tpr")
    parts = ["calibrated" + (f" on {printable(data)[:_LONGEST_NAME]}" if isinstance(data, str) else "")]
    if isinstance(target, float) and math.isfinite(target):
        parts.append(f"target TPR {target:g} of {'obstacles' if stored.get('guarantee') == 'obstacles' else 'pixels'}")
    return ", ".join(parts)
