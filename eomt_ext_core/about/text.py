"""Facts as text, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_CHARACTERS = 200
_DEEPEST = "  "  # mappings below are shown on one line


def lines_of(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Give a line for each fact, those of a mapping below it and indented. Names and values may come from strangers.

    >>> print(*lines_of({"kind": "checkpoint", "head": None, "classes": {"0": "road", "1": "car"}}), sep="\\n")
    kind        checkpoint
    head        none
    classes
      0         road
      1         car
    """
    width = max(12 - len(indent), *(len(_plain(name)) + 2 for name in facts), 0) if facts else 0
    for name, value in facts.items():
        label = _plain(name).replace("_", " ")
        if isinstance(value, Mapping) and value and len(indent) <= len(_DEEPEST):
            yield f"{indent}{label}"
            yield from lines_of(value, indent + "  ")
        else:
            yield f"{indent}{label:<{width}}{_shown(value)}"


def _shown(value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return "none"
    if isinstance(value, list | tuple) and all(isinstance(part, str | int | float) for part in value):
        text = ", ".join(map(str, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _plain(text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _plain(text: str) -> str:
    """Escape what a terminal would obey."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
