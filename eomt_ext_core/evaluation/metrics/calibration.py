"""Calibration of probabilities: reliability bins and expected calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eomt_ext_core.datasets.labels import ANOMALOUS, VOID, check_frame
from eomt_ext_core.errors import ConfigError, DatasetError

_UNIT = 1 << 30  # sums are of whole multiples of 1 / _UNIT, so that the order does not matter
_BLOCK = 1 << 22  # keeps the sums of a block below 2^53, exact in float64


@dataclass(frozen=True)
class CalibrationResult:
    """Reliability of a set of frames, in bins of equal width over [0, 1].

    ``bin_edges``: ascending, one more than bins; ``num_pixels``: valid pixels per bin; ``mean_probability`` and
    ``anomaly_fraction``: of the pixels in each bin, NaN if it is empty; ``ece``: the expected calibration error, the
    mean over pixels of |mean_probability - anomaly_fraction| of their bin (Naeini et al. 2015), NaN without pixels.
    """

    bin_edges: tuple[float, ...]
    num_pixels: tuple[int, ...]
    mean_probability: tuple[float, ...]
    anomaly_fraction: tuple[float, ...]
    ece: float


class Calibration:
    """Accumulate probabilities and labels; the result is the same to the last digit in any order and any grouping.

    >>> calibration = Calibration(num_bins=2)
    >>> calibration.update(np.array([0.25, 0.25, 0.75]), np.array([0, 1, 1]))
    >>> calibration.compute().ece
    0.25
    """

    def __init__(self, num_bins: int = 15) -> None:
        if num_bins < 1:
            raise ConfigError(f"num_bins must be at least 1, got {num_bins}")
        self.num_bins = num_bins
        self._num_pixels = [0] * num_bins
        self._num_anomalous = [0] * num_bins
        self._probability_units = [0] * num_bins

    def update(self, probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Add pixels: ``probabilities`` float in [0, 1] of any shape, ``labels`` alike, 0, 1 or 255 (void).

        Raises ``DatasetError`` like ``PixelMetrics.update``, and for values outside [0, 1].
        """
        probability_array, label_array = check_frame(probabilities, labels)
        valid = label_array != VOID
        values, is_anomalous = probability_array[valid], label_array[valid] == ANOMALOUS
        num_outside = int(np.count_nonzero((values < 0) | (values > 1)))
        if num_outside:
            raise DatasetError(
                f"calibration needs probabilities in [0, 1], got {num_outside} pixels outside "
                f"({values.min():g} to {values.max():g}): apply the sigmoid first"
            )
        for start in range(0, values.size, _BLOCK):
            block = values[start : start + _BLOCK].astype(np.float64)
            bins = np.minimum((block * self.num_bins).astype(np.intp), self.num_bins - 1)
            units = np.bincount(bins, weights=np.rint(block * _UNIT), minlength=self.num_bins)
            pixels = np.bincount(bins, minlength=self.num_bins)
            anomalous = np.bincount(bins[is_anomalous[start : start + _BLOCK]], minlength=self.num_bins)
            self._add(pixels.tolist(), anomalous.tolist(), [int(unit) for unit in units])

    def merge(self, other: Calibration) -> None:
        """Add everything counted by ``other``. Raises ``ConfigError`` if the bins differ."""
        if self.num_bins != other.num_bins:
            raise ConfigError(
                f"merged calibrations must have the same number of bins, got {self.num_bins} and {other.num_bins}"
            )
        self._add(other._num_pixels, other._num_anomalous, other._probability_units)

    def _add(self, pixels: list[int], anomalous: list[int], units: list[int]) -> None:
        self._num_pixels = [a + b for a, b in zip(self._num_pixels, pixels, strict=True)]
        self._num_anomalous = [a + b for a, b in zip(self._num_anomalous, anomalous, strict=True)]
        self._probability_units = [a + b for a, b in zip(self._probability_units, units, strict=True)]

    def compute(self) -> CalibrationResult:
        """Return the reliability of everything counted so far."""
        rows = list(zip(self._num_pixels, self._num_anomalous, self._probability_units, strict=True))
        gap = math.fsum(abs(units / _UNIT - anomalous) for _, anomalous, units in rows)
        total = sum(self._num_pixels)
        return CalibrationResult(
            bin_edges=tuple(step / self.num_bins for step in range(self.num_bins + 1)),
            num_pixels=tuple(self._num_pixels),
            mean_probability=tuple(units / (pixels * _UNIT) if pixels else math.nan for pixels, _, units in rows),
            anomaly_fraction=tuple(anomalous / pixels if pixels else math.nan for pixels, anomalous, _ in rows),
            ece=gap / total if total else math.nan,
        )
