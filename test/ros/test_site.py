"""The site: every page is built, and no link or name in it leads nowhere."""

import logging
import re
from pathlib import Path

import pytest

build = pytest.importorskip("mkdocs.commands.build")
from mkdocs.config import load_config  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning, such as of a dead link, ends the build."""
    folder = tmp_path_factory.mktemp("site")
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    build.build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def text_of(site, page):
    return re.sub(r"<[^>]+>", " ", (site / page / "index.html").read_text(encoding="utf-8"))


def test_commands_page_has_every_command(site):
    text = text_of(site, "commands")
    for name in ("evaluate", "calibrate", "replay", "demo", "doctor"):
        assert f"eomt-ext {name}" in text
    assert "--label-values" in text


def test_examples_are_shown_whole(site):
    text = text_of(site, "examples")
    for path in (ROOT / "examples").glob("*.py"):
        assert path.name in text
    assert "__main__" in text


def test_python_page_has_shapes_and_errors(site):
    text = text_of(site, "python")
    assert "AnomalyEngine" in text
    assert "(H, W, 3) uint8" in text


def test_files_outside_of_the_site_are_not_linked(site):
    for page in site.rglob("*.html"):
        links = re.findall(r'href="([^"#:]+\.(?:xml|yaml|py|rviz))"', page.read_text(encoding="utf-8"))
        assert links == [], page


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        sources = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text(encoding="utf-8")
        )
        assert sources == [], page


def test_flowcharts_are_drawn_without_a_script(site):
    text = (site / "architecture" / "index.html").read_text(encoding="utf-8")
    charts = re.findall(r"<svg[^>]* role=.img.*?</svg>", text, re.DOTALL)
    assert len(charts) == 2
    assert "flowchart TD" not in text
    for words in ("newest image of each camera,", "engine.submit and collect"):
        assert words in charts[0]
    sides = re.findall(r'class="node" x="(\d+)" y="(\d+)" rx="3" width="(\d+)" height="(\d+)"', charts[1])
    boxes = [tuple(map(int, side)) for side in sides]
    assert len(boxes) == charts[1].count(" files<")
    for x, y, width, height in boxes:
        inside = [a for a in boxes if x <= a[0] < x + width and y <= a[1] < y + height]
        assert inside == [(x, y, width, height)], "boxes lie apart"
