"""The bootstrap over frames, against metrics of the pixels themselves."""

import numpy as np
import pytest

from eomt_ext_core.evaluation import OBSTACLE_TRACK
from eomt_ext_core.evaluation.metrics.pixel_metrics import PixelMetrics
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.intervals.bootstrap import interval, metrics_of, resamples

SIDE = 64


def frame(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame with a square anomaly whose scores are higher, more so in some frames."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[10:30, 10:30], labels[:, 60:] = 1, 255
    logits = generator.normal(size=labels.shape) + (labels == 1) * (1 + seed % 3)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


@pytest.fixture(scope="module")
def result():
    with Evaluator(["head"], track=OBSTACLE_TRACK) as evaluator:
        for seed in range(6):
            score, labels = frame(seed)
            evaluator.update(str(seed), np.zeros((SIDE, SIDE, 3), np.uint8), {"head": score}, labels)
        return evaluator.result()


@pytest.fixture(scope="module")
def counts(result):
    return [result.counts[frame.frame_id]["head"] for frame in result.frames]


def test_every_frame_once_is_the_whole_set(result, counts) -> None:
    found = {name: values[0] for name, values in metrics_of(counts, np.ones((1, 6))).items()}
    whole = result.scores["head"]
    assert found["auprc"] == pytest.approx(whole.pixel.auprc, abs=3e-3)  # 400 edges
    assert found["fpr95"] == pytest.approx(whole.pixel.fpr95, abs=3e-3)
    assert found["mean_siou"] == pytest.approx(whole.segment.mean_siou)
    assert found["mean_ppv"] == pytest.approx(whole.segment.mean_ppv)
    assert found["mean_f1"] == pytest.approx(whole.segment.mean_f1)


def test_a_weight_is_a_repetition(counts) -> None:
    found = metrics_of(counts, np.array([[2.0, 0, 0, 1, 0, 0]]))
    metrics = PixelMetrics("exact")
    for seed in (0, 0, 3):
        metrics.update(*frame(seed))
    assert found["auprc"][0] == pytest.approx(metrics.compute().auprc, abs=5e-3)
    assert found["fpr95"][0] == pytest.approx(metrics.compute().fpr95, abs=5e-3)


def test_frames_without_anomalies_leave_metrics_undefined() -> None:
    with Evaluator(["head"]) as evaluator:
        for name, label in (("a", 0), ("b", 1)):
            labels = np.zeros((8, 8), np.uint8)
            labels[:4] = label
            evaluator.update(name, np.zeros((8, 8, 3), np.uint8), {"head": labels.astype(np.float32)}, labels)
        stored = evaluator.result().counts
    found = metrics_of([stored[name]["head"] for name in "ab"], np.array([[1.0, 0], [0, 1]]))
    assert np.isnan(found["auprc"][0])
    assert np.isnan(found["fpr95"][0])
    assert found["auprc"][1] == 1


def test_resamples_draw_as_many_frames_as_there_are() -> None:
    drawn = resamples(7, 50)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(drawn, resamples(7, 50))


def test_an_interval_holds_the_middle_of_the_values() -> None:
    found = interval(np.arange(1001.0))
    assert (found.low, found.high) == (pytest.approx(25), pytest.approx(975))
    assert np.isnan(interval(np.full(10, np.nan)).low)


def test_the_interval_of_a_mean_covers_it() -> None:
    """Of frames that differ, 95 % of the intervals hold the true mean; with 20 frames hardly fewer."""
    generator = np.random.default_rng(0)
    weights, covered = resamples(20, 400), 0
    for _ in range(200):
        means = weights @ generator.normal(size=20) / 20
        found = interval(means)
        covered += found.low <= 0 <= found.high
    assert covered >= 0.87 * 200
