"""The page of a pack: one HTML file without scripts, to read on a screen and on paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from itertools import groupby
from string import Template
from typing import Any

from eomt_ext_core.evidence.hashes import LIST
from eomt_ext_core.evidence.limits import NO_SAFETY_FUNCTION, plain
from eomt_ext_core.evidence.pack import Estimate, Fact, Missing, Pack, Part, Table

_MOST_CHARACTERS = 600
_LONG_WORD = 24  # a hash or a path, which may be broken anywhere
_WIDE = 5  # tables with so many columns scroll on a phone
NO_CERTIFICATE = "This page is no certificate and states no conformity: it gathers what is known for those who judge."


def render_page(pack: Pack, name: str) -> str:
    """Return the page as HTML.

    Args:
        pack: what it shows; texts may come from strangers.
        name: of the model.
    """
    folder = resources.files("eomt_ext_core.evidence")
    template, style = (folder.joinpath(file).read_text(encoding="utf-8") for file in ("page.html", "style.css"))
    package = pack.record["package"]["version"]
    return Template(template).substitute(
        style=style,
        title=f"Evidence on {_text(name)}",
        made=f"{_text(pack.record['date'])}, eomt_ext_ros {_text(package)}",
        notice=f"{_text(plain(NO_SAFETY_FUNCTION))} {NO_CERTIFICATE}",
        contents="".join(f'<li><a href="#{key}">{_text(part.title)}</a></li>' for key, part in pack.parts.items()),
        missing=_summary(pack),
        parts="\n".join(_section(key, part) for key, part in pack.parts.items()),
        footer="evidence.json holds the same for programs, and long values whole. "
        f"{LIST} lists the SHA-256 of every file named here; eomt-ext verify and sha256sum --check compare them.",
    )


def _summary(pack: Pack) -> str:
    found = [(pack.parts[name].title, name, item) for name, item in pack.missing]
    if not found:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><a href="#{name}">{_text(title)}</a></th><td>{_text(item.what)}</td></tr>'
        for title, name, item in found
    )
    caption = f"What this pack does not state: {len(found)}; each part says the way out"
    return (
        '<section aria-labelledby="missing"><h2 id="missing">What is missing</h2>'
        f'<figure><figcaption>{caption}</figcaption><table class="facts" aria-label="Missing"><tbody>{rows}</tbody>'
        "</table></figure></section>"
    )


def _section(key: str, part: Part) -> str:
    by_source = groupby(part.facts.items(), key=lambda item: item[1].source)
    return (
        f'<section aria-labelledby="{key}"><h2 id="{key}">{_text(part.title)}</h2>'
        f'<p class="question">{_text(part.question)}</p>{_lacks(part.missing)}'
        + "".join(_facts(source, facts) for source, facts in by_source)
        + "".join(map(_table, part.tables))
        + "</section>"
    )


def _lacks(missing: Iterable[Missing]) -> str:
    items = "".join(
        f"<li><strong>Missing:</strong> {_text(item.what)}. Way out: {_text(item.way_out)}</li>" for item in missing
    )
    return f'<ul class="lack">{items}</ul>' if items else ""


def _facts(source: str, facts: Iterable[tuple[str, Fact]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(name.replace("_", " "))}</th><td>{_words(fact.value)}</td></tr>'
        for name, fact in facts
    )
    return (
        f"<figure><figcaption>From: {_text(source)}</figcaption>"
        f'<table class="facts" aria-label="Facts from {_text(source)}"><tbody>{rows}</tbody></table></figure>'
    )


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_NUMBER if is_number else ""}>{_text(title)}</th>'
        for title, is_number in zip(table.columns, numeric, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{_NUMBER if is_number else ''}>{_words(cell)}</td>"
            for cell, is_number in zip(row, numeric, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    wide = " wide" if len(table.columns) >= _WIDE else ""
    title = _text(table.title)
    return (
        f"<figure><figcaption><b>{title}</b>From: {_text(table.source)}</figcaption>"
        f'<div class="scroll{wide}" tabindex="0" role="region" aria-label="{title}"><table aria-label="{title}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></figure>"
    )


_NUMBER = ' class="number"'


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, Estimate | int | float) and not isinstance(value, bool))


def _words(value: Any) -> str:
    """A value as HTML; long texts are cut, evidence.json has them whole."""
    if isinstance(value, Estimate):
        ends = "no interval" if math.isnan(value.low) else f"[{_number(value.low)}, {_number(value.high)}]"
        return _number(value.value) if math.isnan(value.value) else f"{_number(value.value)} <small>{ends}</small>"
    if isinstance(value, str) and _LONG_WORD <= len(value) <= _MOST_CHARACTERS and " " not in value:
        return f"<code>{_text(value)}</code>"
    text = _flat(value)
    return _text(text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}… (whole in evidence.json)")


def _flat(value: Any) -> str:
    if value is None or value in ({}, [], (), ""):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_flat(item)}" for name, item in value.items())
    return ", ".join(map(_flat, value)) if isinstance(value, list | tuple) else str(value)


def _number(value: float) -> str:
    """Write a number with the digits that mean something; what is left of rounding is 0.

    >>> _number(0.1428571), _number(5.02098e-05), _number(2.8e-17)
    ('0.143', '5.021e-05', '0')
    """
    value = round(value, 12) + 0.0
    return "–" if math.isnan(value) else f"{value:.3f}" if 0.001 <= abs(value) < 1 else f"{value:.4g}"


def _text(text: object) -> str:
    """Escape a text for HTML, with a visible sign for what cannot be printed, such as a change of direction."""
    return escape("".join(sign if sign.isprintable() else "�" for sign in str(text)))
