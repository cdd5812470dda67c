"""What an evidence pack holds: facts and tables, each with where it comes from, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eomt_ext_core.files import valid_text, without_nan

FORMAT = 1


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its interval; NaN if undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fact:
    """A JSON value; ``source``: the file, hash or command that it comes from, for people."""

    value: Any
    source: str


@dataclass(frozen=True)
class Table:
    """Rows of JSON values and :class:`Estimate`, a value for each column; ``source`` as of :class:`Fact`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    source: str


@dataclass(frozen=True)
class Missing:
    """What is not known, and how to come to know it."""

    what: str
    way_out: str


@dataclass(frozen=True)
class Part:
    """The answer to a question of a reviewer, as far as there is one.

    ``left_out``: files that could not be read or used, a line each; ``missing`` sums them up.
    """

    title: str
    question: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    missing: tuple[Missing, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pack:
    """All parts by name, in their order; ``record``: of the process that made the pack, with the only date."""

    parts: Mapping[str, Part]
    record: Mapping[str, Any]

    @property
    def missing(self) -> Iterator[tuple[str, Missing]]:
        """What is missing, with the name of its part."""
        return ((name, item) for name, part in self.parts.items() for item in part.missing)

    @property
    def left_out(self) -> list[str]:
        """The files that some part left out, a line each."""
        return list(dict.fromkeys(line for part in self.parts.values() for line in part.left_out))

    def to_json(self) -> dict[str, Any]:
        """Give what docs/evidence.md describes; undefined figures become None."""
        parts = {name: _part_to_json(part) for name, part in self.parts.items()}
        found: dict[str, Any] = without_nan(valid_text({"format": FORMAT, "record": self.record, "parts": parts}))
        return found


def facts_from(source: str, values: Mapping[str, Any]) -> dict[str, Fact]:
    """Give facts of one source."""
    return {name: Fact(value, source) for name, value in values.items()}


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], source: str) -> tuple[Table, ...]:
    """Give a table, or none if it has no rows."""
    filled = tuple(map(tuple, rows))
    return (Table(title, tuple(columns), filled, source),) if filled else ()


def _part_to_json(part: Part) -> dict[str, Any]:
    return {
        "title": part.title,
        "question": part.question,
        "facts": {name: vars(fact) for name, fact in part.facts.items()},
        "tables": [
            {**vars(item), "rows": [[_cell_to_json(cell) for cell in row] for row in item.rows]} for item in part.tables
        ],
        "missing": [vars(item) for item in part.missing],
    }


def _cell_to_json(cell: Any) -> Any:
    return vars(cell) if isinstance(cell, Estimate) else cell
