import json
import math
import pickle

import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation import OBSTACLE_TRACK, Calibration, PixelMetrics, SegmentMetrics
from eomt_ext_core.evaluation.passes import merge_first, merge_second, summarise
from eomt_ext_core.evaluation.report import write_report
from eomt_ext_core.evaluation.run import Evaluator

SCORES = ("head", "msp")


def frame(seed, anomalous=True, size_hw=(60, 80)):
    rng = np.random.default_rng(seed)
    labels = np.zeros(size_hw, np.uint8)
    if anomalous:
        labels[20:40, 10:40] = 1
    labels[-8:] = 255
    scores = {name: rng.random(size_hw, dtype=np.float32) * np.float32(0.7) for name in SCORES}
    scores["head"][22:45, 8:38] += np.float32(0.25)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return image, scores, labels


FRAMES = {"b": frame(1), "a": frame(2), "d": frame(3, anomalous=False), "c": frame(4, size_hw=(70, 100))}


def evaluator(tmp_path, names=tuple(FRAMES), **settings):
    made = Evaluator(SCORES, name="set", track=OBSTACLE_TRACK, spool_folder=tmp_path, **settings)
    for name in names:
        image, scores, labels = FRAMES[name]
        made.update(name, image, scores, labels, latency_ms=5.0)
    return made


def as_text(result):
    return json.dumps(result.to_json(), allow_nan=False)


def test_equals_the_metrics_computed_directly(tmp_path):
    with evaluator(tmp_path) as whole:
        result = whole.result()
    assert [row.frame_id for row in result.frames] == ["a", "b", "c", "d"]
    for name in SCORES:
        pixel, calibration = PixelMetrics("exact"), Calibration()
        for _, scores, labels in FRAMES.values():
            pixel.update(scores[name], labels)
            calibration.update(scores[name], labels)
        expected = pixel.compute()
        segment = SegmentMetrics(OBSTACLE_TRACK, expected.best_threshold)
        for _, scores, labels in FRAMES.values():
            segment.update(scores[name], labels)
        found = result.scores[name]
        assert found.pixel == expected
        assert found.segment == segment.compute()
        assert found.segment.num_ground_truth == 3
        assert found.calibration == calibration.compute()


def test_what_the_masks_find(tmp_path):
    image, labels = np.zeros((2, 4, 3), np.uint8), np.uint8([[1, 1, 1, 0], [0, 0, 255, 255]])
    score = np.float32([[0.9, 0.5, 0.6, 0.7], [0.1, 0.5, 0.9, 0.0]])
    for threshold, expected in ((0.5, (2 / 3, 1 / 3)), (0.05, (1.0, 1.0))):
        with Evaluator(["head"], mask_threshold=threshold, spool_folder=tmp_path) as one:
            one.update("a", image, {"head": score}, labels)
            one.update("without labels", image, {"head": score})
            result = one.result()
        found = result.mask
        assert (found.threshold, found.recall, found.false_positive_rate) == (threshold, *expected)
        assert result.to_json()["mask"]["recall"] == expected[0]


def test_without_a_threshold_or_labels_nothing_is_said_of_masks(tmp_path):
    image, score = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)
    with Evaluator(["rba"], mask_threshold=1.0, spool_folder=tmp_path) as one:
        one.update("a", image, {"rba": score}, np.uint8([[0, 1], [0, 0]]))
        assert one.result().mask is None
    with Evaluator(["head"], spool_folder=tmp_path) as one:
        one.update("a", image, {"head": score})
        assert one.result().mask is None


def test_rows_of_frames(tmp_path):
    with evaluator(tmp_path) as whole:
        result = whole.result()
    rows = {row.frame_id: row for row in result.frames}
    assert (rows["c"].size_hw, rows["c"].num_valid, rows["c"].num_anomalous) == ((70, 100), 62 * 100, 600)
    _, scores, labels = FRAMES["b"]
    alone = PixelMetrics("exact")
    alone.update(scores["head"], labels)
    row = rows["b"].scores["head"]
    assert (row.auprc, row.fpr95, row.auroc) == (alone.compute().auprc, alone.compute().fpr95, alone.compute().auroc)
    predicted = scores["head"] > result.scores["head"].pixel.best_threshold
    assert row.recall == np.count_nonzero(predicted & (labels == 1)) / 600
    assert row.false_positive_rate == np.count_nonzero(predicted & (labels == 0)) / np.count_nonzero(labels == 0)
    assert math.isnan(rows["d"].scores["head"].auprc)
    assert result.to_json()["frames"][3]["scores"]["head"]["auprc"] is None


def test_panels_are_of_the_worst_frames(tmp_path):
    with evaluator(tmp_path) as whole:
        worst = sorted(
            "abc", key=lambda name: {r.frame_id: r for r in whole.result().frames}[name].scores["head"].auprc
        )
        assert list(whole.result().panels) == [*worst, "d"]
        assert list(whole.result(max_panels=2).panels) == worst[:2]
        panel = whole.result().panels["a"]
    assert panel.image.startswith(b"\xff\xd8")
    assert list(panel.levels) == list(SCORES)
    truth = cv2.imdecode(np.frombuffer(panel.truth, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(truth, FRAMES["a"][2])  # small enough to be kept as it is


def test_order_and_merging_leave_no_trace(tmp_path):
    with (
        evaluator(tmp_path) as whole,
        evaluator(tmp_path, ("d", "a")) as first,
        evaluator(tmp_path, ("c", "b")) as last,
    ):
        expected = as_text(whole.result())
        parts = pickle.loads(pickle.dumps([first.first_pass(), last.first_pass()]))
        merged = merge_first(parts)
        plan = merged.plan()
        second = merge_second([part.spooled().second_pass(plan) for part in (last, first)])
        assert as_text(summarise(merged, second)) == expected
        last.merge(first)
        assert as_text(last.result()) == expected


def test_spool_is_removed(tmp_path):
    with evaluator(tmp_path):
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_more_frames_after_a_result(tmp_path):
    with evaluator(tmp_path, ("a",)) as growing, evaluator(tmp_path, ("a", "b")) as whole:
        growing.result()
        image, scores, labels = FRAMES["b"]
        growing.update("b", image, scores, labels, 5.0)
        assert as_text(growing.result()) == as_text(whole.result())


def test_frames_without_labels_are_pictured_and_timed_only(tmp_path):
    image, scores, _ = FRAMES["a"]
    with Evaluator(SCORES, spool_folder=tmp_path, mask_threshold=0.6) as unlabelled:
        unlabelled.update("x", image, scores, None, 12.5)
        result = unlabelled.result()
    assert result.scores == {}
    assert result.num_labelled == 0
    assert result.frames[0].mask_fraction == np.count_nonzero(scores["head"] > 0.6) / scores["head"].size
    assert result.panels["x"].truth is None
    assert result.latency_ms == {"x": 12.5}
    write_report(result, tmp_path / "report")


def test_set_without_anomaly_has_no_segments(tmp_path):
    with evaluator(tmp_path, ("d",)) as normal:
        result = normal.result()
        write_report(result, tmp_path / "report")
    assert result.scores["head"].segment is None
    assert result.to_json()["scores"]["head"]["pixel"]["auprc"] is None
    (line,) = result.to_json()["undefined"]
    assert line == "no pixel is anomalous: AuPRC, FPR95, AUROC, F1 and the segment metrics are undefined"
    assert line in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_what_else_is_undefined_is_said_too(tmp_path):
    image, scores, labels = FRAMES["a"]
    with evaluator(tmp_path, ()) as alone:
        alone.update("all", image, scores, np.ones_like(labels))
        assert alone.result().undefined[0] == "no pixel is normal: FPR95 and AUROC are undefined"
    with evaluator(tmp_path, ()) as small:
        speck = np.zeros_like(labels)
        speck[:2, :2] = 1
        low = {name: np.zeros_like(score) for name, score in scores.items()}
        low["head"][:2, :2] = 1
        small.update("speck", image, low, speck)
        assert small.result().undefined == (
            "all labelled obstacles are too small for the track: sIoU is undefined",
            "head: all found obstacles are too small for the track: PPV is undefined",
        )
    with evaluator(tmp_path, ("a", "b")) as whole:
        assert whole.result().undefined == ()


def change(**changes):
    image, scores, labels = FRAMES["a"]
    return {"image_rgb": image, "scores": scores, "labels": labels, **changes}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (change(labels=FRAMES["c"][2]), "'new': scores and labels must have the same shape"),
        (change(labels=FRAMES["a"][2] + 1), "'new': labels must be 0"),
        (change(scores={"head": FRAMES["a"][1]["head"]}), "'new' needs the score 'msp' as .* got none"),
        (change(image_rgb=FRAMES["c"][0]), r"needs the score 'head' as \(70, 100\) float32, got \(60, 80\)"),
        (change(scores={name: score.astype(np.float64) for name, score in FRAMES["a"][1].items()}), "float64"),
        (change(scores={**FRAMES["a"][1], "msp": FRAMES["a"][1]["msp"] + 1}), r"'new': .*probabilities in \[0, 1\]"),
    ],
)
def test_wrong_frames_are_refused_and_leave_no_trace(given, message, tmp_path):
    with evaluator(tmp_path, ("a",)) as whole:
        before = as_text(whole.result())
        with pytest.raises(DatasetError, match=message):
            whole.update("new", **given)
        assert as_text(whole.result()) == before


def test_frame_twice(tmp_path):
    with evaluator(tmp_path, ("a",)) as first, evaluator(tmp_path, ("a", "b")) as other:
        image, scores, labels = FRAMES["a"]
        with pytest.raises(DatasetError, match="unique in a set, got 'a' twice"):
            first.update("a", image, scores, labels)
        with pytest.raises(DatasetError, match="'a' is in both"):
            first.merge(other)


def test_setups_must_agree(tmp_path):
    with (
        evaluator(tmp_path, ("a",)) as first,
        evaluator(tmp_path, ("b",), mode="exact") as other,
        pytest.raises(ConfigError, match="same setup"),
    ):
        first.merge(other)
    with pytest.raises(ConfigError, match="scores must be different names"):
        Evaluator(["head", "head"])


def test_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(DatasetError, match="has only 1 MiB free: free space"):
        evaluator(tmp_path, ("a",))
