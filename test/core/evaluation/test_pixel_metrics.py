import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation import PixelMetrics
from eomt_ext_core.evaluation.metrics.score_histogram import ScoreHistogram


def reference(scores, labels):
    """AuPRC, FPR95, AUROC and best F1 of valid pixels, by scikit-learn."""
    scores, labels = scores[labels != 255], labels[labels != 255]
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return (
        average_precision_score(labels, scores),
        fpr[np.flatnonzero(tpr >= 0.95)[0]],
        roc_auc_score(labels, scores),
        f1.max(),
    )


def measured(result):
    return result.auprc, result.fpr95, result.auroc, result.best_f1


def in_cells(max_rows=1 << 16):
    """Streaming metrics that leave the exact stage early."""
    metrics = PixelMetrics()
    metrics._store = ScoreHistogram(max_rows)
    return metrics


def of(metrics, scores, labels):
    metrics.update(scores, labels)
    return metrics.compute()


def assert_f1_at_threshold(result, scores, labels):
    predicted, anomalous = (scores > result.best_threshold) & (labels != 255), labels == 1
    true_positives = np.count_nonzero(predicted & anomalous)
    f1 = 2 * true_positives / (np.count_nonzero(predicted) + np.count_nonzero(anomalous))
    assert f1 == pytest.approx(result.best_f1, abs=1e-12)


@pytest.mark.parametrize(("marked", "found"), [(0, 1.0), (1, 1.0), (2, 0.5)])
def test_threshold_at_which_one_percent_of_the_normal_pixels_are_marked(marked, found):
    # 100 normal pixels, as many of which as named lie between two anomalous ones.
    scores = np.concatenate([np.full(100 - marked, 0.5), np.full(marked, 0.96), [0.98, 0.95]]).astype(np.float32)
    labels = np.array([0] * 100 + [1, 1])
    result = of(PixelMetrics(), scores, labels)
    assert result.tpr_at_fpr1 == found
    assert np.count_nonzero(scores[:100] > result.fpr1_threshold) <= 1
    assert np.count_nonzero(scores[100:] > result.fpr1_threshold) == 2 * result.tpr_at_fpr1


@pytest.mark.parametrize("mode", ["streaming", "exact"])
def test_hand_computed(mode):
    # Descending: 9 anomalous; 7 one of each; 5 normal; 3 anomalous; 1 normal. The 8 is void.
    scores = np.array([[9, 7, 7, 5], [3, 1, 8, 1]], dtype=np.float32)
    labels = np.array([[1, 1, 0, 0], [1, 0, 255, 255]], dtype=np.uint8)
    result = of(PixelMetrics(mode), scores, labels)
    assert result.auprc == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert result.fpr95 == 2 / 3
    assert result.auroc == pytest.approx((3 + 2.5 + 1) / 9)
    assert result.best_f1 == 6 / 8
    assert result.best_threshold == np.nextafter(np.float32(3), np.float32(0))
    assert (result.num_valid, result.num_anomalous, result.anomaly_fraction) == (6, 3, 0.5)
    assert (result.auprc_error_bound, result.fpr95_error_bound, result.auroc_error_bound) == (0, 0, 0)


@pytest.mark.parametrize(("num_found", "expected"), [(18, 1.0), (19, 0.0)])
def test_fpr95_takes_exactly_95_percent(num_found, expected):
    scores = np.array([2.0] * num_found + [1.0] * 4 + [0.0] * (20 - num_found))
    labels = np.array([1] * num_found + [0] * 4 + [1] * (20 - num_found))
    assert of(PixelMetrics(), scores, labels).fpr95 == expected


label_arrays = hnp.arrays(np.uint8, 40, elements=st.sampled_from([0, 1, 255]))
score_arrays = hnp.arrays(np.float32, 40, elements=st.sampled_from([-2.5, -0.0, 0.0, 0.25, 1.0, 3.0])) | hnp.arrays(
    st.sampled_from([np.float32, np.float64]), 40, elements=st.floats(-(2.0**100), 2.0**100, width=32)
)


@settings(max_examples=150, deadline=None)
@given(score_arrays, label_arrays)
def test_both_modes_equal_scikit_learn(scores, labels):
    labels[:2] = 0, 1
    expected = reference(scores, labels)
    for mode in ("streaming", "exact"):
        result = of(PixelMetrics(mode), scores, labels)
        assert measured(result) == pytest.approx(expected, abs=1e-9)
        assert_f1_at_threshold(result, scores, labels)


def adversarial(name, size=150_000):
    rng = np.random.default_rng(7)
    labels = (rng.random(size) < 0.1).astype(np.uint8)
    order = rng.random(size) + 0.2 * labels
    match name:
        case "within 1e-7":
            return (0.7 + 1e-7 * order).astype(np.float32), labels
        case "within 1e-7, float64":
            return 0.7 + 1e-7 * order, labels
        case "within 1e-7 of 0":
            return (1e-7 * order).astype(np.float32), labels
        case "constant":
            return np.full(size, 0.5, dtype=np.float32), labels
        case "heavy ties":
            return np.round(order * 8).astype(np.float32), labels
        case "one anomalous pixel":
            labels = np.zeros(size, dtype=np.uint8)
            labels[4321] = 1
            return order.astype(np.float32), labels
        case "one normal pixel":
            return order.astype(np.float32), np.where(np.arange(size) == 4321, 0, 1).astype(np.uint8)
        case "saturated probabilities":
            logits = np.where(rng.random(size) < 0.5, -16, 16) + 3 * rng.standard_normal(size) + labels
            return (1 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.float32), labels
        case "wide and saturated":
            spread = np.exp(-60 * rng.random(size))
            return np.where(rng.random(size) < 0.5, 1 - 1e-6 * (2 - order), spread).astype(np.float32), labels
        case "unbounded logits":
            logits = rng.choice([-1e30, -1.0, 1.0, 1e30], size) * order
            return logits.astype(np.float32), labels
        case "below -1":
            return (-1 + 1e-6 * order).astype(np.float32), labels


CASES = [
    "within 1e-7",
    "within 1e-7, float64",
    "within 1e-7 of 0",
    "constant",
    "heavy ties",
    "one anomalous pixel",
    "one normal pixel",
    "saturated probabilities",
    "wide and saturated",
    "unbounded logits",
    "below -1",
]


@pytest.mark.parametrize("name", CASES)
def test_adversarial_scores(name):
    scores, labels = adversarial(name)
    expected = reference(scores, labels)
    assert measured(of(PixelMetrics("exact"), scores, labels)) == pytest.approx(expected, abs=1e-9)
    assert measured(of(PixelMetrics(), scores, labels)) == pytest.approx(expected, abs=1e-9)

    result = of(in_cells(), scores, labels)
    bounds = result.auprc_error_bound, result.fpr95_error_bound, result.auroc_error_bound
    for value, right, bound in zip(measured(result), expected, bounds, strict=False):
        assert abs(value - right) <= bound + 1e-9
    if name != "within 1e-7, float64":  # what float32 cannot tell apart is the business of the exact stage
        assert measured(result) == pytest.approx(expected, abs=1e-4)
        assert max(bounds) < 1e-3
        assert_f1_at_threshold(result, scores, labels)


def test_cells_are_finer_where_scores_are_dense():
    rng = np.random.default_rng(3)
    labels = (rng.random(100_000) < 0.3).astype(np.uint8)
    scores = (3 + 0.05 * rng.random(100_000) + 0.01 * labels).astype(np.float32)
    expected = reference(scores, labels)
    result = of(in_cells(1 << 15), scores, labels)
    assert measured(result) == pytest.approx(expected, abs=2e-5)
    assert 0 < abs(result.auprc - expected[0]) <= result.auprc_error_bound < 1e-4


def test_bounds_hold_when_cells_are_coarse():
    rng = np.random.default_rng(5)
    scores = (rng.standard_normal(60_000) * 10.0 ** rng.integers(-30, 30, 60_000)).astype(np.float32)
    labels = (rng.random(60_000) < 0.05).astype(np.uint8)
    result = of(in_cells(1 << 9), scores, labels)
    ap, fpr95, auroc, _ = reference(scores, labels)
    assert 0 < abs(result.auprc - ap) <= result.auprc_error_bound < 0.05
    assert abs(result.fpr95 - fpr95) <= result.fpr95_error_bound
    assert abs(result.auroc - auroc) <= result.auroc_error_bound


def frames_of_growing_range(num_frames=6, size=3000):
    rng = np.random.default_rng(11)
    for step in range(num_frames):
        scores = rng.standard_normal(size) * 10.0 ** rng.integers(-step - 1, step + 1, size)
        dtype = np.float64 if step == 2 else np.float32
        yield scores.astype(dtype), rng.choice([0, 0, 0, 1, 255], size).astype(np.uint8)


MAKERS = {
    "exact mode": lambda: PixelMetrics("exact"),
    "exact stage": PixelMetrics,
    "cells": lambda: in_cells(5000),
    "coarse cells": lambda: in_cells(100),
    "cells late": lambda: in_cells(9000),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("seed", range(3))
def test_order_batching_and_merging_leave_no_trace(maker, seed):
    frames = list(frames_of_growing_range())
    whole = maker()
    for scores, labels in frames:
        whole.update(scores, labels)
    expected = whole.compute()

    rng = np.random.default_rng(seed)
    pieces = [
        piece
        for scores, labels in frames
        for piece in zip(np.array_split(scores, 3 + seed), np.array_split(labels, 3 + seed), strict=True)
    ]
    workers = [maker() for _ in range(3)]
    for number in rng.permutation(len(pieces)):
        worker = workers[rng.integers(3)]
        worker.update(*pieces[number])
        if rng.random() < 0.2:
            worker.compute()
    first, second, third = (pickle.loads(pickle.dumps(worker)) for worker in rng.permutation(workers))
    second.merge(third)
    third_alone = third.compute()
    first.merge(second)
    assert first.compute() == expected
    assert third.compute() == third_alone
    for name, points in asdict(first.curve()).items():
        np.testing.assert_array_equal(points, asdict(whole.curve())[name])


@pytest.mark.parametrize("mode", ["streaming", "exact"])
def test_many_small_updates(mode):
    rng = np.random.default_rng(6)
    scores, labels = rng.random((300, 20)), rng.integers(0, 2, (300, 20))
    metrics = PixelMetrics(mode)
    for row in range(300):
        metrics.update(scores[row], labels[row])
    assert measured(metrics.compute()) == pytest.approx(reference(scores.ravel(), labels.ravel()), abs=1e-12)


def test_streaming_memory_does_not_grow():
    metrics, sizes = in_cells(2000), []
    rng = np.random.default_rng(0)
    for _ in range(30):
        metrics.update(rng.random(5000, dtype=np.float32), rng.integers(0, 2, 5000))
        sizes.append(len(pickle.dumps(metrics)))
    assert max(sizes) < 2 * 32 * 4 * 2000
    assert metrics.compute().num_valid == 150_000


@pytest.mark.parametrize("mode", ["streaming", "exact"])
def test_undefined_values_are_nan(mode):
    scores = np.array([0.1, 0.6, 0.6], dtype=np.float32)
    void = of(PixelMetrics(mode), scores, np.full(3, 255))
    assert (void.num_valid, void.num_anomalous) == (0, 0)
    assert all(math.isnan(value) for value in (*measured(void), void.best_threshold, void.anomaly_fraction))
    assert math.isnan(PixelMetrics(mode).compute().auprc)

    normal = of(PixelMetrics(mode), scores, np.zeros(3, dtype=bool))
    assert (normal.num_valid, normal.num_anomalous, normal.anomaly_fraction) == (3, 0, 0)
    assert all(math.isnan(value) for value in (*measured(normal), normal.best_threshold))

    anomalous = of(PixelMetrics(mode), scores, np.ones(3, dtype=bool))
    assert (anomalous.auprc, anomalous.best_f1) == (1, 1)
    assert scores.min() > anomalous.best_threshold
    assert math.isnan(anomalous.fpr95)
    assert math.isnan(anomalous.auroc)


def test_constant_scores_rank_nothing():
    result = of(PixelMetrics(), np.full(8, 0.5, dtype=np.float16), np.array([1, 0, 0, 0, 0, 0, 0, 0]))
    assert (result.auprc, result.fpr95, result.auroc) == (1 / 8, 1, 0.5)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), int), r"same shape, got \(2, 3\) and \(3, 2\)"),
        (np.zeros(3, int), np.zeros(3, int), "float16, float32 or float64, got int64"),
        (np.zeros(3), np.zeros(3), "labels must be integers .* got float64"),
        (np.zeros(4), np.array([0, 2, 7, 7]), "got 2, 7 in 3 pixels"),
        (np.array([np.nan, np.nan, np.inf, 0.5]), np.array([0, 1, 1, 0]), "got 2 NaN and 1 infinite among 4"),
    ],
)
def test_bad_frames_are_named_and_not_counted(scores, labels, message):
    metrics = PixelMetrics()
    with pytest.raises(DatasetError, match=message):
        metrics.update(scores, labels)
    assert metrics.compute().num_valid == 0


def test_void_scores_need_not_be_finite():
    result = of(PixelMetrics(), np.array([np.nan, -np.inf, 0.5, 0.1]), np.array([255, 255, 1, 0]))
    assert (result.num_valid, result.auprc) == (2, 1)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="'streaming' or 'exact', got 'fast'"):
        PixelMetrics("fast")
    with pytest.raises(ConfigError, match="same mode"):
        PixelMetrics().merge(PixelMetrics("exact"))
    with pytest.raises(ConfigError, match="same max_rows"):
        ScoreHistogram().merge(ScoreHistogram(10))
    with pytest.raises(ConfigError, match="max_rows must be at least 1, got 0"):
        ScoreHistogram(0)
    with pytest.raises(ConfigError, match="at least 4 points"):
        PixelMetrics().curve(3)


@pytest.mark.parametrize("mode", ["streaming", "exact"])
def test_curve_follows_scikit_learn(mode):
    rng = np.random.default_rng(2)
    labels = (rng.random(50_000) < 0.1).astype(np.uint8)
    scores = (rng.standard_normal(50_000) + labels).astype(np.float32)
    metrics = PixelMetrics(mode)
    metrics.update(scores, labels)
    curve = metrics.curve(max_points=200)
    assert 100 < curve.threshold.size <= 200
    assert (curve.threshold[0], curve.precision[0], curve.recall[0]) == (np.inf, 1, 0)
    assert (curve.recall[-1], curve.false_positive_rate[-1]) == (1, 1)
    assert (np.diff(curve.threshold) < 0).all()
    assert np.diff(curve.recall).max() < 0.03
    assert np.diff(curve.false_positive_rate).max() < 0.03
    for point in rng.integers(1, curve.threshold.size, 20):
        predicted = scores > curve.threshold[point]
        assert curve.recall[point] == pytest.approx(predicted[labels == 1].mean())
        assert curve.false_positive_rate[point] == pytest.approx(predicted[labels == 0].mean())
        assert curve.precision[point] == pytest.approx(labels[predicted].mean())


def test_small_curve_keeps_every_row():
    metrics = PixelMetrics()
    metrics.update(np.array([3.0, 2.0, 2.0, 1.0]), np.array([1, 0, 1, 0]))
    curve = metrics.curve()
    np.testing.assert_array_equal(curve.recall, [0, 0.5, 1, 1])
    np.testing.assert_array_equal(curve.false_positive_rate, [0, 0, 0.5, 1])
    np.testing.assert_array_equal(curve.precision, [1, 1, 2 / 3, 0.5])
