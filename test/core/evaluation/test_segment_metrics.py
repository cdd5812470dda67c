import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation import ANOMALY_TRACK, OBSTACLE_TRACK, PixelMetrics, SegmentMetrics, SegmentTrack

EVERY_PIXEL = SegmentTrack("every pixel", 1, 1)


def literal_components(mask):
    """8-connected components of a mask as a list of pixel sets, by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    components = []
    while left:
        component, front = set(), {left.pop()}
        while front:
            y, x = front.pop()
            component.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front |= near
        components.append(component)
    return components


def literal_metrics(frames, track, threshold):
    """The definitions of the benchmark word for word, on sets of pixels and with fractions."""
    sious, ppvs = [], []
    for scores, labels in frames:
        truths = literal_components(labels == 1)
        predictions = literal_components((scores > threshold) & (labels != 255))
        predictions = [prediction for prediction in predictions if len(prediction) >= track.min_predicted_px]
        void = set().union(*(truth for truth in truths if len(truth) < track.min_ground_truth_px))
        truths = [truth for truth in truths if len(truth) >= track.min_ground_truth_px]
        predictions = [prediction - void for prediction in predictions if prediction - void]
        for truth in truths:
            touching = set().union(*(prediction for prediction in predictions if prediction & truth))
            others = set().union(*(other for other in truths if other is not truth))
            adjusted_union = (truth | touching) - (others & touching)
            sious.append(Fraction(len(truth & touching), len(adjusted_union)))
        all_truth = set().union(*truths)
        ppvs += [Fraction(len(prediction & all_truth), len(prediction)) for prediction in predictions]
    f1 = []
    for tau in (Fraction(step, 100) for step in range(25, 80, 5)):
        tp = sum(siou >= tau for siou in sious)
        fn = sum(siou < tau for siou in sious)
        fp = sum(ppv < tau for ppv in ppvs)
        f1.append(2 * tp / (2 * tp + fn + fp) if sious or ppvs else math.nan)
    return sious, ppvs, f1


def of(frames, track, threshold=0.5):
    metrics = SegmentMetrics(track, threshold)
    for scores, labels in frames:
        metrics.update(scores, labels)
    return metrics.compute()


def picture(*rows):
    """Scores and labels of rows of '.' normal, 'G' missed truth, 'p' false alarm, 'X' hit, 'V' predicted void."""
    cells = np.array([list(row) for row in rows])
    labels = np.select([np.isin(cells, ["G", "X"]), cells == "V"], [1, 255], 0).astype(np.uint8)
    return np.isin(cells, ["p", "X", "V"]).astype(np.float32), labels


@st.composite
def blobs(draw):
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels, scores = np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32)
    for value, target in ((1, labels), (1, scores), (255, labels)):
        for _ in range(draw(st.integers(0, 7))):
            y, x = rng.integers(height), rng.integers(width)
            target[y : y + rng.integers(1, 8), x : x + rng.integers(1, 8)] = value
    noise = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.2]))
    return np.where(noise, 1 - scores, scores), labels


@settings(max_examples=250, deadline=None)
@given(st.lists(blobs(), max_size=3), st.sampled_from([(1, 1), (2, 3), (6, 4)]))
def test_equals_the_literal_definitions(frames, sizes):
    track = SegmentTrack("small", *sizes)
    result = of(frames, track)
    sious, ppvs, f1 = literal_metrics(frames, track, 0.5)
    assert (result.num_ground_truth, result.num_predicted) == (len(sious), len(ppvs))
    for mean, ratios in ((result.mean_siou, sious), (result.mean_ppv, ppvs)):
        expected = math.fsum(float(ratio) for ratio in ratios) / len(ratios) if ratios else math.nan
        assert mean == pytest.approx(expected, abs=0, nan_ok=True)
    assert result.f1 == pytest.approx(f1, abs=0, nan_ok=True)
    assert result.mean_f1 == pytest.approx(math.fsum(f1) / 11, abs=0, nan_ok=True)


def test_union_leaves_out_what_lies_on_other_components():
    # One prediction over two obstacles of 4 px: 3 px hit of each, and 2 px of road between them.
    result = of([picture("GXXXppXXXG")], EVERY_PIXEL)
    assert result.num_ground_truth == 2
    assert result.mean_siou == 3 / 6
    assert result.mean_ppv == 6 / 8
    assert result.true_positives == (2,) * 6 + (0,) * 5
    assert result.false_negatives == (0,) * 6 + (2,) * 5
    assert result.false_positives == (0,) * 11
    assert result.mean_f1 == 6 / 11


def test_diagonal_pixels_are_one_component():
    assert of([picture("G..", ".G.", "..G")], EVERY_PIXEL).num_ground_truth == 1


def test_equality_at_threshold_is_a_hit():
    found = of([picture("GGXXX")], EVERY_PIXEL)  # sIoU 3/5
    assert found.siou_thresholds[7] == 0.6
    assert found.true_positives == (1,) * 8 + (0,) * 3
    assert of([picture("ppXXX")], EVERY_PIXEL).false_positives == (0,) * 8 + (1,) * 3  # PPV 3/5


def test_threshold_itself_is_not_predicted():
    scores, labels = np.full((2, 2), 0.5, np.float32), np.zeros((2, 2), np.uint8)
    assert of([(scores, labels)], EVERY_PIXEL, 0.5).num_predicted == 0
    assert of([(scores, labels)], EVERY_PIXEL, np.nextafter(0.5, 0)).num_predicted == 1


@pytest.mark.parametrize("track", [ANOMALY_TRACK, OBSTACLE_TRACK], ids=lambda track: track.name)
def test_components_of_just_the_minimal_size_count(track):
    assert (track.min_predicted_px, track.min_ground_truth_px) in {(500, 100), (50, 10)}
    for missing in (0, 1):
        labels = np.zeros((4, 600), np.uint8)
        scores = np.zeros((4, 600), np.float32)
        labels[0, : track.min_ground_truth_px - missing] = 1
        scores[2, : track.min_predicted_px - missing] = 1
        result = of([(scores, labels)], track)
        assert (result.num_ground_truth, result.num_predicted) == (1 - missing, 1 - missing)


def test_void_cuts_predictions_before_they_are_sized():
    pieces = picture("pppVVpppp")
    assert of([pieces], SegmentTrack("four", 4, 1)).num_predicted == 1
    assert of([pieces], SegmentTrack("three", 3, 1)).num_predicted == 2


def test_small_ground_truth_is_void_but_does_not_cut_predictions():
    result = of([picture("ppXXppGGGG")], SegmentTrack("small", 6, 3))
    assert (result.num_ground_truth, result.num_predicted) == (1, 1)
    assert (result.mean_siou, result.mean_ppv) == (0, 0)
    result = of([picture("XX..XXX")], SegmentTrack("small", 1, 3))
    assert (result.num_ground_truth, result.num_predicted, result.mean_ppv) == (1, 1, 1)


def test_sets_without_components():
    nothing = of([picture("....")], EVERY_PIXEL)
    assert math.isnan(nothing.mean_f1)
    assert math.isnan(nothing.mean_siou)
    assert math.isnan(nothing.mean_ppv)
    assert math.isnan(of([picture("VVVV"), (np.zeros((0, 3)), np.zeros((0, 3), int))], EVERY_PIXEL).mean_f1)

    false_alarm = of([picture(".pp.")], EVERY_PIXEL)
    assert (false_alarm.mean_f1, false_alarm.mean_ppv) == (0, 0)
    assert math.isnan(false_alarm.mean_siou)
    missed = of([picture(".GG.")], EVERY_PIXEL)
    assert (missed.mean_f1, missed.mean_siou) == (0, 0)
    assert math.isnan(missed.mean_ppv)


def test_order_and_merging_leave_no_trace():
    rng = np.random.default_rng(8)
    frames = []
    for _ in range(12):
        blob = np.kron(rng.random((12, 16)) < 0.3, np.ones((5, 5)))
        labels = np.where(np.kron(rng.random((12, 16)) < 0.1, np.ones((5, 5))) > 0, 255, blob).astype(np.uint8)
        frames.append(((0.5 * np.roll(blob, 2, axis=1) + 0.4 * rng.random(blob.shape)).astype(np.float32), labels))
    expected = of(frames, OBSTACLE_TRACK, 0.45)
    assert 0 < expected.mean_f1 < 1
    parts = [SegmentMetrics(OBSTACLE_TRACK, 0.45) for _ in range(3)]
    for number in rng.permutation(12):
        parts[rng.integers(3)].update(*frames[number])
    first, second, third = (pickle.loads(pickle.dumps(part)) for part in parts)
    third.merge(second)
    third.merge(first)
    assert third.compute() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threshold_of_best_f1_lets_its_lowest_score_through(dtype):
    # The best threshold is the lower of the two anomalous scores; the float64 frame makes it a float64 neighbour.
    scores = np.array([[0.7, 0.0, 0.3]], dtype=np.float32)
    labels = np.array([[1, 0, 1]], dtype=np.uint8)
    pixels = PixelMetrics()
    pixels.update(scores, labels)
    pixels.update(np.array([[0.1]], dtype=dtype), np.array([[0]]))
    result = of([(scores, labels)], EVERY_PIXEL, pixels.compute().best_threshold)
    assert (result.num_predicted, result.mean_f1) == (2, 1)


def test_errors_name_the_rule():
    metrics = SegmentMetrics(OBSTACLE_TRACK, 0.5)
    with pytest.raises(DatasetError, match=r"one frame \(H, W\) at a time, got shape \(2, 3, 4\)"):
        metrics.update(np.zeros((2, 3, 4)), np.zeros((2, 3, 4), int))
    with pytest.raises(DatasetError, match="got 1 NaN and 0 infinite among 2"):
        metrics.update(np.array([[np.nan, 0.5]]), np.zeros((1, 2), int))
    with pytest.raises(DatasetError, match="got 3 in 1 pixels"):
        metrics.update(np.zeros((1, 2)), np.array([[0, 3]]))
    with pytest.raises(ConfigError, match="must be a number, got NaN"):
        SegmentMetrics(OBSTACLE_TRACK, math.nan)
    with pytest.raises(ConfigError, match=r"'obstacle' at 0\.5 and 'anomaly' at 0\.5"):
        metrics.merge(SegmentMetrics(ANOMALY_TRACK, 0.5))
    with pytest.raises(ConfigError, match="at least 1 px, got 0 predicted"):
        SegmentTrack("none", 0, 1)
