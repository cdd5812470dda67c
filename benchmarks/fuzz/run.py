"""Run commands on mutated files, and check that each keeps the rules.

No traceback, no crash, no request to the network, no more than 1 GiB of memory and 20 s for a file of less than 1 MB,
and the exit code that the case expects. The files are the same for the same seed. Ends with code 1 if a rule is broken.

    python -m benchmarks.fuzz.run
    python -m benchmarks.fuzz.run checkpoints --count 1000 --seed 7 --keep /tmp/broken
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.fuzz.case import LARGEST_BYTES, Case, Kind
from benchmarks.fuzz.child import Child, Outcome

KINDS = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in ("__init__", "case", "child", "mutations", "run", "worker")
    )
)
MOST_SECONDS = 20.0
MOST_BYTES = 1 << 30
CASES_PER_CHILD = 50  # that one case does not pay for what all others left


@dataclass(frozen=True)
class Verdict:
    """A case, how it went, and the rules that it broke."""

    case: Case
    outcome: Outcome
    broken: tuple[str, ...]


def judge(case: Case, outcome: Outcome) -> tuple[str, ...]:
    """Name the rules that a case broke."""
    broken = []
    if outcome.crash:
        broken.append(outcome.crash)
    if outcome.traceback or "Traceback (most recent call last)" in outcome.output:
        broken.append("traceback")
    if outcome.events:
        broken.append(f"forbidden: {outcome.events[0]}")
    if outcome.growth_bytes > MOST_BYTES:
        broken.append(f"memory: {outcome.growth_bytes / 2**20:.0f} MiB")
    if outcome.seconds > MOST_SECONDS:
        broken.append(f"time: {outcome.seconds:.1f} s")
    if case.expect is not None and not outcome.crash and case.expect != ("error" if outcome.code else "success"):
        broken.append(f"exit code {outcome.code} where {case.expect} is expected")
    if outcome.code and not outcome.crash and not outcome.output.strip():
        broken.append(f"exit code {outcome.code} without a word")
    return tuple(broken)


def run_cases(kind: Kind, cases: Iterable[Case], folder: Path, progress: Callable[[str], None]) -> list[Verdict]:
    """Run all, in children of which each takes many.

    Raises:
        ValueError: if a case is useless: too large, or with a repeated name.
    """
    verdicts: list[Verdict] = []
    names: set[str] = set()
    child: Child | None = None
    try:
        for case in cases:
            if case.name in names or case.size_bytes() >= LARGEST_BYTES:
                raise ValueError(f"{case.name}: must be new and below {LARGEST_BYTES} bytes, got {case.size_bytes()}")
            names.add(case.name)
            progress(case.name)
            if child is None or not child.is_alive() or child.num_cases >= CASES_PER_CHILD:
                if child is not None:
                    child.close()
                child = Child(kind.PRELOAD, kind.FORBIDDEN_EVENTS, folder)
            outcome = child.run(case.command, MOST_SECONDS, MOST_BYTES)
            verdicts.append(Verdict(case, outcome, judge(case, outcome)))
    finally:
        if child is not None:
            child.close()
    return verdicts


def show(console: Console, name: str, verdicts: list[Verdict]) -> None:
    """Print the figures, and each case that broke a rule with its last words."""
    outcomes = [verdict.outcome for verdict in verdicts]
    broken = [verdict for verdict in verdicts if verdict.broken]
    ends = Counter("crash" if item.crash else "error" if item.code else "success" for item in outcomes)
    table = Table("kind", "cases", "success", "error", "crash", "broken", "slowest", "CPU", "most memory")
    table.add_row(
        name,
        str(len(outcomes)),
        *(str(ends[end]) for end in ("success", "error", "crash")),
        str(len(broken)),
        f"{max(item.seconds for item in outcomes):.2f} s",
        f"{sum(item.cpu_s for item in outcomes):.0f} s",
        f"{max(item.growth_bytes for item in outcomes) / 2**20:.0f} MiB",
    )
    console.print(table, width=max(100, console.width))
    for verdict in broken:
        console.print(f"[red]{escape(verdict.case.name)}[/red] {escape('; '.join(verdict.broken))}", highlight=False)
        words = (verdict.outcome.traceback or verdict.outcome.output).strip().splitlines()
        console.print(escape("\n".join(f"    {line}" for line in words[-6:])), highlight=False)


def keep_broken(verdicts: list[Verdict], folder: Path) -> None:
    """Copy the files that broke a rule; what is there already stays."""
    for verdict in verdicts:
        target = folder / verdict.case.path.name
        if verdict.broken and not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if verdict.case.path.is_dir() else shutil.copy2
            copy(verdict.case.path, target)


def main(
    kinds: Annotated[list[str] | None, typer.Argument(help=f"out of {', '.join(KINDS)}; all without")] = None,
    count: Annotated[int, typer.Option(help="files of each kind", min=1)] = 300,
    seed: Annotated[int, typer.Option(help="of the files")] = 0,
    only: Annotated[str, typer.Option(help="run only the cases with this in their name")] = "",
    keep: Annotated[Path | None, typer.Option(help="folder for copies of the files that broke a rule")] = None,
) -> None:
    """Run mutated files of some kinds through the commands that take them."""
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise typer.BadParameter(f"kinds must be out of {', '.join(KINDS)}, got {', '.join(unknown)}")
    console = Console()
    all_verdicts: list[Verdict] = []
    for name in kinds or KINDS:
        kind: Kind = importlib.import_module(f"benchmarks.fuzz.{name}")  # type: ignore[assignment]
        with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder, console.status(name) as status:
            files = Path(folder) / "files"
            files.mkdir()
            cases = (case for case in kind.cases(seed, count, files) if only in case.name)
            verdicts = run_cases(kind, cases, Path(folder), lambda text, name=name: status.update(f"{name}: {text}"))
            if not verdicts:
                raise typer.BadParameter(f"no case of {name} has {only!r} in its name")
            if keep is not None:
                keep_broken(verdicts, keep)
        show(console, name, verdicts)
        all_verdicts += verdicts
    if not all(verdict.outcome.isolated for verdict in all_verdicts):
        console.print("The kernel's network could not be taken away: only requests of Python itself were seen.")
    sys.exit(1 if any(verdict.broken for verdict in all_verdicts) else 0)


if __name__ == "__main__":
    typer.run(main)
