"""``eomt-ext compare``: what differs between runs over the same frames, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.errors import ConfigError

if TYPE_CHECKING:
    from eomt_ext_core.comparison.compare import Difference, FrameChange
    from eomt_ext_core.comparison.runs import Run

_TITLES = {"auprc": "AuPRC ↑", "fpr95": "FPR95 ↓", "mean_siou": "sIoU ↑", "mean_ppv": "PPV ↑", "mean_f1": "mF1 ↑",
           "mask_fraction": "in mask"}  # fmt: skip
_FIGURES = {"auprc": "AuPRC", "mask_fraction": "mask fraction"}


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="output folders of evaluate, predict or replay, or their metrics.json")
    ],
    scores: Annotated[str | None, typer.Option("--scores", help="compare only these, separated by commas")] = None,
    frames: Annotated[int, typer.Option(help="most frames listed, the most changed first", min=0)] = 20,
) -> None:
    """Compare runs with the first of them: metrics with 95 % intervals, and frames side by side.

    The intervals are of the differences, from a paired bootstrap over frames; * marks those that do not hold 0. Runs
    over other frames or labels are refused.
    """
    from rich.console import Console

    from eomt_ext_core.comparison.compare import (
        changed_frames,
        check_same_frames,
        common_scores,
        differences,
        same_score,
    )
    from eomt_ext_core.comparison.runs import Run

    if len(runs) < 2:
        raise ConfigError(f"compare needs at least two runs, got {len(runs)}")
    wanted = None if scores is None else options.score_names(scores)
    read = [Run.read(path) for path in runs]
    check_same_frames(read)
    pairs = [common_scores(read[0], run) for run in read[1:]]
    if wanted is not None:
        pairs = [[pair for pair in of_run if pair[0] in wanted] for of_run in pairs]
        if not all(pairs):
            raise ConfigError(f"--scores must name scores of all runs, got {scores!r}")
    found = [differences(read[0], run, of_run) for run, of_run in zip(read[1:], pairs, strict=True)]
    firsts = same_score(pairs)
    figure, changes = changed_frames(read, firsts)
    print_result(
        {
            "runs": [{"name": run.name, "record": run.record} for run in read],
            "differences": [[asdict(item) for item in of_run] for of_run in found],
            "frames": {"figure": figure, "scores": firsts, "changed": [asdict(item) for item in changes[:frames]]},
        }
    )
    console = Console()
    for run, of_run in zip(read[1:], found, strict=True):
        console.print(f"{read[0].name} → {run.name}", style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(_difference_table(of_run))
    if frames and changes:
        console.print(_frame_table(read, figure, changes[:frames]))
        console.print(f"frames: {len(changes)}, the most changed first", highlight=False)


def _difference_table(found: Sequence[Difference]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("set", "score", "in %"):
        table.add_column(column)
    for column in ("before", "after", "change", "95 % interval", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for item in found:
        ends = _percent(item.interval.low, "+"), _percent(item.interval.high, "+")
        mark = "*" if item.is_clear and "+0.00" not in ends else ""  # rounding alone may leave a tiny difference
        table.add_row(
            *map(escape, (item.set_name, item.score)), _TITLES[item.metric], *map(_percent, (item.before, item.after)),
            _percent(item.after - item.before, "+"), " … ".join(ends), mark,
        )  # fmt: skip
    return table


def _frame_table(runs: Sequence[Run], figure: str, changes: Sequence[FrameChange]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{_FIGURES[figure]} of a frame, in %", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in ("set", "frame"):
        table.add_column(column)
    for run in runs:
        table.add_column(escape(Path(run.name).name), justify="right")
    table.add_column("change", justify="right")
    for item in changes:
        values = map(_percent, item.values)
        table.add_row(escape(item.set_name), escape(item.frame_id), *values, _percent(item.change))
    return table


def _percent(value: float, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{round(100 * value, 2) + 0.0:{sign}.2f}"  # -0.0 + 0.0 is 0.0
