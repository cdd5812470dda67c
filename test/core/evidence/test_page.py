"""The page: no network, no script, and the basics of a document that everyone can read."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eomt_ext_core.evidence.pack import Estimate, Fact, Missing, Pack, Part, Table
from eomt_ext_core.evidence.page import NO_CERTIFICATE, render_page

NAN = float("nan")
RECORD = {"date": "2026-01-01T00:00:00Z", "package": {"version": "1.0"}}
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Elements(HTMLParser):
    """Tags with their attributes, and the text of each, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def of(self, *tags: str) -> Iterator[tuple[str, dict[str, str | None]]]:
        return ((tag, attributes) for tag, attributes in self.found if tag in tags)


def page_of(part: Part) -> str:
    return render_page(Pack({"model": part}, RECORD), "street.safetensors")


def text_in(page: str, tag: str) -> list[str]:
    return [text for parent, text in Elements(page).texts if parent == tag]


@pytest.fixture
def real(made: tuple[Path, Any]) -> str:
    return (made[0] / "evidence.html").read_text(encoding="utf-8")


def test_nothing_is_fetched_and_nothing_runs(real: str) -> None:
    elements = Elements(real)
    assert not list(elements.of("script", "link", "img", "iframe", "object", "form", "base"))
    reading = {"href", "src", "srcset", "action", "background", "style"}
    attributes = [item for _, found in elements.found for item in found.items()]
    references = [value for name, value in attributes if name in reading or name.startswith("on")]
    assert references
    assert all(value is not None and value.startswith("#") for value in references)
    (style,) = text_in(real, "style")
    assert not any(word in style for word in ("url(", "@import", "http"))
    assert "@media print" in style
    policy = [attributes["content"] for _, attributes in elements.of("meta") if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_it_is_a_document_for_everyone(real: str) -> None:
    elements = Elements(real)
    assert elements.open == []
    assert [attributes["lang"] for _, attributes in elements.of("html")] == ["en"]
    headings = [int(tag[1]) for tag, _ in elements.of("h1", "h2", "h3")]
    assert headings[0] == 1
    assert set(headings[1:]) == {2}
    assert all(attributes.get("scope") in ("col", "row") for _, attributes in elements.of("th"))
    assert all(attributes.get("aria-label") for _, attributes in elements.of("table"))
    anchors = {f"#{attributes['id']}" for _, attributes in elements.found if "id" in attributes}
    links = [attributes["href"] for _, attributes in elements.of("a")]
    assert links
    assert set(links) <= anchors
    assert NO_CERTIFICATE in real


def test_texts_of_strangers_stay_texts(real: str) -> None:
    assert "&lt;script&gt;x&lt;/script&gt;" in real
    assert "\u202e" not in real


def test_figures_are_fractions_with_their_intervals() -> None:
    rows = ((Estimate(0.5714, 0.47, 0.6725),), (Estimate(0.8, NAN, NAN),), (Estimate(NAN, NAN, NAN),))
    page = page_of(Part("Model", "What?", tables=(Table("Figures", ("AuPRC",), rows, "metrics.json"),)))
    assert text_in(page, "td") == ["0.571", "0.800", "–"]
    assert text_in(page, "small") == ["[0.470, 0.672]", "no interval"]
    assert "From: metrics.json" in page


def test_facts_are_grouped_by_their_source_and_long_ones_cut() -> None:
    facts = {"one": Fact(True, "a"), "two_words": Fact({"x": 0.25, "y": [1, 2]}, "a"), "long": Fact("x y" * 1000, "b")}
    page = page_of(Part("Model", "What?", facts))
    assert [text for text in text_in(page, "figcaption") if text.startswith("From")] == ["From: a", "From: b"]
    cells = text_in(page, "td")
    assert cells[:2] == ["yes", "x: 0.250; y: 1, 2"]
    assert cells[2].endswith("… (whole in evidence.json)")
    assert len(cells[2]) < 700


def test_what_is_missing_is_told_at_the_top_and_in_its_part() -> None:
    page = page_of(Part("Model", "What?", missing=(Missing("no <b> is known", "eomt-ext make"),)))
    assert page.count("no &lt;b&gt; is known") == 2
    assert "Way out: eomt-ext make" in page
    assert "What is missing" not in page_of(Part("Model", "What?"))
