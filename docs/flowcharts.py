"""Flowcharts of the pages as SVG in the site, which then needs no script from elsewhere. A hook of mkdocs.

Understood is what our pages use of Mermaid: ``flowchart TD``, subgraphs, nodes ``a["text"]`` and ``a(["text"])``, and
the arrows ``-->``, ``-.->`` and ``-- "text" -->``. A node stands below all that point to it. Each subgraph has a column
of its own; if no arrow stays inside one, as between floors, each has a row instead.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from textwrap import wrap

LINE, PAD, GAP, ROW_GAP, CHARACTER = 16, 9, 18, 46, 6.6  # in pixels
WIDEST = 740  # in pixels, to which a wider chart shrinks
LONGEST = 28  # characters of a line, about
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NODE = r'(\w+)(?:\(?\["(.*?)"\]\)?)?'
_ARROW = re.compile(rf'{_NODE} (?:(-->|-\.->)|-- "(.*?)" -->) (?={_NODE})')
_DEFINED = re.compile(r'(\w+)(\(?)\["(.*?)"\]')


@dataclass
class Node:
    """A box, or without lines a place that an arrow passes; with its middle in pixels once it is placed."""

    lines: list[str]
    is_round: bool
    group: tuple[str, ...]
    x: float = 0.0
    y: float = 0.0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        return max(map(len, self.lines), default=0) * CHARACTER + 2 * PAD, len(self.lines) * LINE + 2 * PAD - 4


@dataclass
class Chart:
    """Boxes by name, titles of subgraphs, and arrows: the names along them, text, dashed or not."""

    nodes: dict[str, Node] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    arrows: list[tuple[list[str], str, bool]] = field(default_factory=list)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Draw the flowcharts of a page."""
    return _BLOCK.sub(lambda block: f"\n{svg(block[1])}\n", markdown)


def parse(text: str) -> Chart:
    """Read a flowchart.

    >>> chart = parse('subgraph g ["G"]\\na["A"] -- "t" --> b(["B<br/>C"])\\nend\\na -.-> c["D"]')
    >>> [(name, node.lines, node.group) for name, node in chart.nodes.items()]
    [('a', ['A'], ('g',)), ('b', ['B', 'C'], ('g',)), ('c', ['D'], ())]
    >>> chart.arrows
    [(['a', 'b'], 't', False), (['a', 'c'], '', True)]
    """
    chart = Chart()
    inside: list[str] = []
    for line in text.splitlines():
        if opened := re.match(r'\s*subgraph (\w+) \["(.*)"\]', line):
            inside.append(opened[1])
            chart.titles[opened[1]] = opened[2]
        elif line.strip() == "end":
            inside.pop()
        else:
            for name, bracket, words in _DEFINED.findall(line):
                lines = [short for part in words.split("<br/>") for short in wrap(part, LONGEST)]
                chart.nodes[name] = Node(lines, bool(bracket), tuple(inside))
            for arrow in _ARROW.finditer(line):
                chart.arrows.append(([arrow[1], arrow[5]], arrow[4] or "", arrow[3] == "-.->"))
    return chart


def svg(text: str) -> str:
    """Draw a flowchart, in the colours of the page."""
    chart = parse(text)
    said = html.escape(f"Flowchart: {', '.join(' '.join(node.lines) for node in chart.nodes.values())}", quote=True)
    width, height = _place(chart)
    boxes = (_box(node) for node in chart.nodes.values() if node.lines)
    return (
        f'<div class="flowchart" tabindex="0"><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{said}" '
        f'style="min-width: {min(width, WIDEST):.0f}px; max-width: {width:.0f}px"><defs>'
        '<marker id="tip" refX="7" refY="4" viewBox="0 0 8 8" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join([*_arrows(chart), *_frames(chart), *boxes])}</svg></div>"
    )


def _place(chart: Chart) -> tuple[float, float]:
    """Give every node its place, and arrows over several rows a way between the boxes; the size of the whole."""
    row_of, column_of = _rows_and_columns(chart)
    for names, _, _ in chart.arrows:
        start, end = names
        for row in range(row_of[start] + 1, row_of[end] if column_of[start] == column_of[end] else 0):
            names.insert(-1, f"{start} {end} {row}")
            chart.nodes[names[-2]] = Node([], False, ())
            row_of[names[-2]], column_of[names[-2]] = row, column_of[end]
    rows: dict[int, dict[str, list[str]]] = {}
    for name in chart.nodes:
        rows.setdefault(row_of[name], {}).setdefault(column_of[name], []).append(name)
    columns = ["", *chart.titles]
    widest = {column: max(_width(chart, row.get(column, [])) for row in rows.values()) for column in columns}
    y = 0.0
    for _, row in sorted(rows.items()):
        height = max(chart.nodes[name].size[1] for names in row.values() for name in names)
        y += ROW_GAP + height
        x = 2.0 * GAP
        for column in (column for column in columns if widest[column] > 0):
            names = sorted(row.get(column, []), key=lambda name: _middle_above(chart, name))
            left = x + (widest[column] - _width(chart, names)) / 2
            for node in (chart.nodes[name] for name in names):
                node.x, node.y = left + node.size[0] / 2, y - height / 2
                left += node.size[0] + GAP
            x += widest[column] + 2.5 * GAP
    return x - GAP, y + ROW_GAP


def _width(chart: Chart, names: list[str]) -> float:
    return sum(chart.nodes[name].size[0] + GAP for name in names) - GAP


def _middle_above(chart: Chart, name: str) -> float:
    """The mean place of what points to a node."""
    above = [chart.nodes[a].x for names, _, _ in chart.arrows for a, b in pairwise(names) if b == name]
    return sum(above) / len(above) if above else 0.0


def _rows_and_columns(chart: Chart) -> tuple[dict[str, int], dict[str, str]]:
    top = {name: node.group[0] if node.group else "" for name, node in chart.nodes.items()}
    if all(top.values()) and all(top[start] != top[end] for (start, end), _, _ in chart.arrows):
        floors = [*chart.titles]
        return {name: floors.index(group) for name, group in top.items()}, dict.fromkeys(top, "")
    above: dict[str, set[str]] = {name: set() for name in chart.nodes}
    for (start, end), _, _ in chart.arrows:
        above[end].add(start)
    rows: dict[str, int] = {}
    for name in TopologicalSorter(above).static_order():
        rows[name] = 1 + max((rows[other] for other in above[name]), default=-1)
    return rows, top


def _frames(chart: Chart) -> Iterator[str]:
    for group, title in chart.titles.items():
        inside = [node for node in chart.nodes.values() if group in node.group]
        deeper = max(len(node.group) - node.group.index(group) for node in inside)
        margin = 4 + 9 * deeper
        left = min(node.x - node.size[0] / 2 for node in inside) - margin
        width = max(node.x + node.size[0] / 2 for node in inside) + margin - left
        lines = wrap(title, round(width / CHARACTER))
        top = min(node.y - node.size[1] / 2 for node in inside) - 4 - 13 * (deeper - 1 + len(lines))
        height = max(node.y + node.size[1] / 2 for node in inside) + margin - top
        yield f'<rect class="group" x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4"/>'
        for index, line in enumerate(lines, 1):
            yield f'<text class="title" x="{left + 6:.0f}" y="{top + 12 * index:.0f}">{html.escape(line)}</text>'


def _arrows(chart: Chart) -> Iterator[str]:
    said = set()
    for names, words, dashed in chart.arrows:
        along = [chart.nodes[name] for name in names]
        points = [(node.x, node.y) for node in along]
        points[0] = (along[0].x, along[0].y + along[0].size[1] / 2)
        points[-1] = (along[-1].x, along[-1].y - along[-1].size[1] / 2)
        curves = "".join(
            f"C{x:.0f} {(y + v) / 2:.0f} {u:.0f} {(y + v) / 2:.0f} {u:.0f} {v:.0f}"
            for (x, y), (u, v) in pairwise(points)
        )
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        yield f'<path class="arrow" d="M{points[0][0]:.0f} {points[0][1]:.0f}{curves}"{dashes} marker-end="url(#tip)"/>'
        if words and (names[-1], words) not in said:
            said.add((names[-1], words))
            x = (points[0][0] + points[-1][0]) / 2
            yield f'<text class="words" x="{x:.0f}" y="{points[0][1] + 14:.0f}">{html.escape(words)}</text>'


def _box(node: Node) -> str:
    width, height = node.size
    first = node.y - (len(node.lines) - 1) / 2 * LINE + 4
    lines = (
        f'<text x="{node.x:.0f}" y="{first + i * LINE:.0f}">{html.escape(t)}</text>' for i, t in enumerate(node.lines)
    )
    corner = f'x="{node.x - width / 2:.0f}" y="{node.y - height / 2:.0f}" rx="{16 if node.is_round else 3}"'
    return f'<rect class="node" {corner} width="{width:.0f}" height="{height:.0f}"/>{"".join(lines)}'
