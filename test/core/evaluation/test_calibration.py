import math

import numpy as np
import pytest

from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation import Calibration


def test_hand_computed():
    calibration = Calibration(num_bins=4)
    calibration.update(np.array([[0.0, 0.125, 0.5, 1.0, 0.9]]), np.array([[0, 1, 1, 1, 255]]))
    result = calibration.compute()
    assert result.bin_edges == (0, 0.25, 0.5, 0.75, 1)
    assert result.num_pixels == (2, 0, 1, 1)
    assert result.mean_probability[0] == 0.0625
    assert result.anomaly_fraction[0] == 0.5
    assert math.isnan(result.mean_probability[1])
    assert result.ece == (2 * (0.5 - 0.0625) + (1 - 0.5) + 0) / 4


def test_order_and_merging_leave_no_trace():
    rng = np.random.default_rng(1)
    probabilities, labels = rng.random(10_000), rng.choice([0, 1, 255], 10_000)
    whole = Calibration()
    whole.update(probabilities, labels)
    parts = [Calibration() for _ in range(4)]
    order = rng.permutation(10_000)
    for part, pixels in zip(parts, np.array_split(order, 4), strict=True):
        part.update(probabilities[pixels], labels[pixels])
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].compute() == whole.compute()

    valid = labels != 255
    bins = np.minimum(probabilities[valid] * 15, 14).astype(int)
    gaps = [abs((probabilities[valid][bins == number] - labels[valid][bins == number]).sum()) for number in range(15)]
    assert whole.compute().ece == pytest.approx(sum(gaps) / valid.sum(), abs=1e-8)


def test_calibrated_probabilities_have_little_error():
    rng = np.random.default_rng(4)
    probabilities = rng.random(200_000).astype(np.float32)
    calibration = Calibration()
    calibration.update(probabilities, rng.random(200_000) < probabilities)
    assert calibration.compute().ece < 0.01


def test_errors_and_nothing_to_measure():
    calibration = Calibration()
    assert math.isnan(calibration.compute().ece)
    with pytest.raises(DatasetError, match=r"in \[0, 1\], got 2 pixels outside \(-3 to 4\)"):
        calibration.update(np.array([-3.0, 0.5, 4.0]), np.array([0, 1, 1]))
    assert sum(calibration.compute().num_pixels) == 0
    with pytest.raises(ConfigError, match="same number of bins, got 15 and 10"):
        calibration.merge(Calibration(num_bins=10))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Calibration(num_bins=0)
