import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from eomt_ext_core.evaluation.report import write_report
from eomt_ext_core.evaluation.run import Evaluator

VOID_TAGS = {"meta", "img", "input", "line", "circle"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps them and their texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.cells = [], [], [], []
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
        if data.strip():
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
    without_images = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//\w|@import|url\(", without_images)
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_page_shows_sets_scores_charts_and_worst_frames(page):
    assert [cell for cell in page.cells if cell in ("head", "rba")] == ["head", "rba", "head", "rba"]
    labels = [attrs["aria-label"] for attrs in page.of("svg")]
    assert labels == ["Precision-recall curves", "ROC curves", "Calibration", "Latency"] * 2
    frames = page.of("article")
    values = [float(attrs["data-auprc"]) for attrs in frames]
    assert values == sorted(values)
    assert len(frames) == 4
    assert {attrs["data-name"] for attrs in frames} == {f"{s}<{i}>" for s in ("first", "second & last") for i in (1, 2)}
    assert len(page.of("img")) == 4 * 4 + 1
    assert any("2 more frames are not shown" in text for text in page.texts)


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
    assert [attrs["aria-label"] for attrs in page.of("svg")] == ["Latency"]
    assert page.of("table") == []
    assert len(page.of("img")) == 2 * 3 + 1


def test_metrics_and_timing_are_apart(tmp_path):
    write_report(result(tmp_path, "set"), tmp_path / "report", {"checkpoint": "demo"})
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    timing = json.loads((tmp_path / "report" / "timing.json").read_text(encoding="utf-8"))
    assert metrics["about"] == {"checkpoint": "demo"}
    assert metrics["sets"][0]["num_frames"] == 3
    assert 0 < metrics["sets"][0]["scores"]["head"]["pixel"]["auprc"] <= 1
    assert timing == {"set": {"set<0>": 10.0, "set<1>": 11.0, "set<2>": 12.0}}
    assert "latency" not in json.dumps(metrics)
