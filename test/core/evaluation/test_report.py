import json
import re
import struct
from html.parser import HTMLParser
from importlib import resources

import cv2
import numpy as np
import pytest

from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.page.render import SCRIPTS
from eomt_ext_core.evaluation.panels import levels_thumbnail
from eomt_ext_core.evaluation.report import write_report
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.tracking.record import COLUMNS

VOID_TAGS = {"meta", "img", "input", "line", "circle"}


def data_of(page):
    return json.loads(page.data)


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps them and their texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.cells, self.data = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.tags[-1:] == [("script", {"type": "application/json", "id": "data"})] and self.open[-1] == "script":
            self.data += data
        elif data.strip():
            self.texts.append(data.strip())
            self.cells += [data.strip()] if self.open[-1] == "td" else []

    def of(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and all(a.get(key) == value for key, value in wanted.items())]


def result(tmp_path, name, num_frames=3, labelled=True):
    with Evaluator(["head", "rba"], name=name, spool_folder=tmp_path) as evaluator:
        for index in range(num_frames):
            rng = np.random.default_rng(index)
            labels = np.zeros((60, 90), np.uint8)
            labels[20:40, 30:60] = 1
            labels[:5] = 255
            scores = {key: rng.random((60, 90), dtype=np.float32) for key in ("head", "rba")}
            scores["head"] = (scores["head"] * (1 + index) + (labels == 1)) / np.float32(3 + index)
            image = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
            evaluator.update(f"{name}<{index}>", image, scores, labels if labelled else None, 10.0 + index)
        return evaluator.result(max_panels=2)


@pytest.fixture
def page(tmp_path):
    results = [result(tmp_path, "first"), result(tmp_path, "second & last")]
    write_report(results, tmp_path / "report", {"title": "A & B", "checkpoint": "demo", "bags": {"x": [1, 2]}})
    return Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))


def test_page_is_well_formed(page):
    assert page.open == []
    assert page.texts.count("A & B") == 2
    assert {"demo", "x: 1; 2"} <= set(page.texts)


def test_page_needs_no_network(tmp_path, page):
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w|@import|url\(", text.replace(page.data, ""))
    assert not any(key in attrs for _, attrs in page.tags for key in ("src", "href"))


def test_page_shows_sets_scores_and_charts(page):
    assert [cell for cell in page.cells if cell in ("head", "rba")] == ["head", "rba", "head", "rba"]
    regions = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "region"]
    assert len(set(regions)) == len(regions) > 1, "a screen reader tells them apart"
    labels = [attrs["aria-label"] for attrs in page.of("svg") if "aria-label" in attrs]
    assert labels == ["Precision-recall curves", "ROC curves", "Calibration", "Latency"] * 2
    assert any("Pictures are stored of 4 of 6 frames" in text for text in page.texts)


def test_page_has_all_frames_worst_first_and_pictures_of_the_worst(page):
    frames = data_of(page)["frames"]
    values = [frame["scores"]["head"]["auprc"] for frame in frames]
    assert values == sorted(values)
    shown = [frame["id"] for frame in frames if "panel" in frame]
    assert sorted(shown) == [f"{name}<{index}>" for name in ("first", "second & last") for index in (1, 2)]
    assert {frame["latency"] for frame in frames} == {10.0, 11.0, 12.0}


def test_thresholds_are_those_of_the_best_f1_or_of_the_run(tmp_path):
    labelled, plain = result(tmp_path, "set"), result(tmp_path, "bag", labelled=False)
    write_report([labelled, plain], tmp_path / "report")
    first, second = data_of(Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8")))["sets"]
    assert first["thresholds"] == {name: labelled.scores[name].pixel.best_threshold for name in ("head", "rba")}
    assert second["thresholds"] == {"head": 0.5, "rba": 1.0}, "nobody knows one of the second score: an empty mask"


@pytest.mark.parametrize("threshold", [1e-4, 0.01, 0.5, 0.9])
def test_stored_levels_are_above_a_threshold_where_the_image_is(threshold):
    rng = np.random.default_rng(0)
    probability = (rng.random((300, 960)) ** 8).astype(np.float32)
    encoded = levels_thumbnail(probability)
    low, high = struct.unpack("<ff", encoded[:8])
    levels = cv2.imdecode(np.frombuffer(encoded[8:], np.uint8), cv2.IMREAD_UNCHANGED)
    largest = probability.reshape(150, 2, 480, 2).max(axis=(1, 3))
    assert levels.shape == (150, 480)
    cut = 255 * (np.log(threshold / (1 - threshold)) - low) / (high - low)
    step = (high - low) / 255
    is_near = abs(np.log(largest / (1 - largest)) - np.log(threshold / (1 - threshold))) < step
    np.testing.assert_array_equal((levels > cut)[~is_near], (largest > threshold)[~is_near])
    assert is_near.mean() < 0.1


def test_a_frame_of_a_recording_says_where_and_why(tmp_path):
    image, probability = np.zeros((60, 90, 3), np.uint8), np.linspace(0, 1, 5400, dtype=np.float32).reshape(60, 90)
    rows = ({"track_id": 7, "score": "0.9000", "nearest_class": "</script>"},)
    detail = FrameDetail("drive/front", 3, 0.2, "overlay_front.mp4", 0.2, rows, "dirt")
    with Evaluator(["head"], spool_folder=tmp_path) as evaluator:
        evaluator.update("a", image, {"head": probability}, detail=detail)
        write_report(evaluator.result(), tmp_path / "report")
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    (frame,) = data_of(page)["frames"]
    assert (frame["sequence"], frame["index"], frame["time"], frame["video"]) == (
        *("drive/front", 3, 0.2),
        detail.video,
    )
    assert (frame["rows"], frame["obstacles"], frame["health"]) == (list(rows), 1, "dirt")
    assert (frame["largest"], frame["size"]) == (1.0, [90, 60])


def test_curves_stay_inside_their_chart(page):
    for attrs in page.of("polyline"):
        points = np.array([point.split(",") for point in attrs["points"].split()], dtype=float)
        assert np.isfinite(points).all()
        assert (points.min(axis=0) >= [46, 12]).all()
        assert (points.max(axis=0) <= [328, 238]).all()


def test_set_without_labels(tmp_path):
    write_report(result(tmp_path, "bag", labelled=False), tmp_path / "report")
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert [attrs["aria-label"] for attrs in page.of("svg") if "aria-label" in attrs] == ["Latency"]
    assert page.of("table") == []
    assert [frame["panel"]["truth"] for frame in data_of(page)["frames"] if "panel" in frame] == [None, None]


def test_metrics_and_timing_are_apart(tmp_path):
    write_report(result(tmp_path, "set"), tmp_path / "report", {"checkpoint": "demo"})
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    timing = json.loads((tmp_path / "report" / "timing.json").read_text(encoding="utf-8"))
    assert metrics["about"] == {"checkpoint": "demo"}
    assert metrics["sets"][0]["num_frames"] == 3
    assert 0 < metrics["sets"][0]["scores"]["head"]["pixel"]["auprc"] <= 1
    assert timing == {"set": {"set<0>": 10.0, "set<1>": 11.0, "set<2>": 12.0}}
    assert "latency" not in json.dumps(metrics)


def test_scripts_and_page_are_of_one_piece():
    folder = resources.files("eomt_ext_core.evaluation.page")
    html = folder.joinpath("page.html").read_text(encoding="utf-8")
    scripts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".js")}
    for name, script in scripts.items():
        assert name in SCRIPTS, "a script that is not in the page"
        for wanted in re.findall(r'find\("([\w-]+)"\)', script):
            assert f'id="{wanted}"' in html, f"{name} looks for {wanted}"
    shown = re.findall(r'\["(\w+)", "[^"]+"\]', scripts["viewer.js"])
    assert {*shown} - {"box"} == {*COLUMNS} - {"left", "top", "width", "height"}
