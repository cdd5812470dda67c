"""Write the section "GPU" of docs/performance.md from the figures of ``benchmarks/gpu.py``.

    python benchmarks/gpu_page.py [DIR]

Without figures of a GPU it says that nothing was measured, and shows what the kernels take of each architecture.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_parts.run import RESULT, run_here, setting_of  # noqa: E402
from benchmarks.gpu_parts.table import Table, resources, tables  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- written by benchmarks/gpu_page.py -->\n", "<!-- end of what it writes -->\n"
_NOT_MEASURED = "Not measured: `python benchmarks/gpu.py --output DIR` on a machine with a GPU gives the figures.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of benchmarks/gpu.py; none: nothing was measured")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    result = None if args.folder is None else json.loads((args.folder / RESULT).read_text(encoding="utf-8"))
    text = args.page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    args.page.write_text(f"{before}{BEGIN}{section(result)}{END}{after}", encoding="utf-8")


def section(result: Mapping[str, Any] | None) -> str:
    """Write the section; what the kernels take is compiled here unless the run has come so far."""
    parts = {} if result is None else result["parts"]
    if parts.get("resources", {}).get("state") != "measured":
        parts = parts | {"resources": run_here("resources", setting_of("cpu", False))}
    if result is None or result["quick"] or "GPU" not in result["machine"]:
        return f"{_NOT_MEASURED}\n{_markdown(resources({'resources': parts['resources']['figures']}))}"
    machine = ", ".join(f"{name}: {value}" for name, value in result["machine"].items())
    shown = "\n".join(map(_markdown, tables({**result, "parts": parts})))
    return f"{machine}. `python benchmarks/gpu.py --output DIR`.\n\n{shown}"


def _markdown(table: Table) -> str:
    return "\n".join([f"**{table.title}**", "", *_rows(table), ""])


def _rows(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield "|---" * len(table.columns) + "|"
    yield from map(_row, table.rows)


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
