"""The rooms of the node and their imports, drawn from the code into architecture.md: ``python docs/rooms.py``.

A room is a folder of ``eomt_ext_ros``; an arrow is an import anywhere in a file, conditional or not. Arrows that
follow from others are left out. A room stands one floor above the highest room that it imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "eomt_ext_ros"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/rooms.py -->\n", "<!-- end of the drawing -->\n"

Graph = Mapping[str, set[str]]


def imported(path: Path) -> set[str]:
    """Names of everything that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def rooms() -> dict[str, list[Path]]:
    """The files of each room."""
    folders = sorted(path.parent for path in (ROOT / PACKAGE).glob("*/__init__.py"))
    return {folder.name: sorted(folder.rglob("*.py")) for folder in folders}


def imports() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    known = rooms()
    graph = {}
    for room, files in known.items():
        parts = [name.split(".") for path in files for name in imported(path)]
        graph[room] = {part[1] for part in parts if part[0] == PACKAGE and part[1:] and part[1] in known} - {room}
    return graph


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each room, the lowest first; a circle raises ``graphlib.CycleError``."""
    floor: dict[str, int] = {}
    for room in TopologicalSorter(graph).static_order():
        floor[room] = 1 + max((floor[other] for other in graph[room]), default=-1)
    return floor


def reach(graph: Graph, room: str) -> set[str]:
    """All rooms that a room imports, those of its imports included."""
    return set().union(*({other} | reach(graph, other) for other in graph[room]))


def lines_of_code(path: Path) -> int:
    """Lines that hold code: no blank ones, no comments, no docstrings."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    texts = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in texts for number, line in lines)


def drawing() -> str:
    """The rooms as a Mermaid flowchart, the highest floor first."""
    graph, known = imports(), rooms()
    floor = floors(graph)
    lines = ["```mermaid", "flowchart TD"]
    for level in sorted(set(floor.values()), reverse=True):
        lines.append(f'    subgraph floor{level} ["floor {level}"]')
        for room in sorted(room for room in floor if floor[room] == level):
            lines.append(f'        {room}["{room}/<br/>{len(known[room])} files"]')
        lines.append("    end")
    for room in sorted(graph, key=lambda room: (-floor[room], room)):
        implied = set().union(*(reach(graph, other) for other in graph[room]))
        lines += [f"    {room} --> {other}" for other in sorted(graph[room] - implied)]
    return "\n".join([*lines, "```"]) + "\n"


def main() -> None:
    """Write the drawing into the page, by another name first."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    new = PAGE.with_suffix(".new")
    new.write_text(before + BEGIN + drawing() + END + after, encoding="utf-8")
    new.replace(PAGE)


if __name__ == "__main__":
    sys.exit(main())
