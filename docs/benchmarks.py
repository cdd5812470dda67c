"""The page of benchmark figures, written from results: ``python docs/benchmarks.py RUN… > docs/benchmarks.md``.

A run is the output folder of ``eomt-ext evaluate``, or its ``metrics.json``. Every figure, interval, frame and fact on
the page is read from it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eomt_ext_core.comparison.runs import Run, RunSet
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.intervals.bootstrap import NUM_RESAMPLES

# Name, frames with public labels, and where they are published.
SETS = {
    "RoadAnomaly21": (10, "SegmentMeIfYouCan, validation: segmentmeifyoucan.com (Chan et al., NeurIPS 2021)"),
    "RoadObstacle21": (30, "SegmentMeIfYouCan, validation: segmentmeifyoucan.com (Chan et al., NeurIPS 2021)"),
    "FS LaF": (100, "Fishyscapes Lost & Found, validation: fishyscapes.com (Blum et al., IJCV 2021)"),
    "FS Static": (30, "Fishyscapes Static, validation: fishyscapes.com (Blum et al., IJCV 2021)"),
    "RoadAnomaly": (60, "EPFL: epfl.ch/labs/cvlab/data/road-anomaly (Lis et al., ICCV 2019)"),
}
TITLES = {"auprc": "AuPRC ↑", "fpr95": "FPR95 ↓", "mean_siou": "sIoU ↑", "mean_ppv": "PPV ↑", "mean_f1": "mean F1 ↑"}

HEAD = f"""# Benchmarks: figures with intervals

Written by `python docs/benchmarks.py RUN… > docs/benchmarks.md` from the `metrics.json` of `eomt-ext evaluate`; to
repeat it, evaluate the same frames and run it on the result. `eomt-ext compare` compares a run of yours with another.

In %, over all pixels or components of a set; void is excluded. In brackets: 95 % intervals, from {NUM_RESAMPLES}
bootstrap resamples of the frames. With few frames they are wide, and say so: figures whose intervals overlap widely
are not told apart by such a set. They cover the choice of frames alone, not that of a model by the same frames.
Component metrics are those of SegmentMeIfYouCan at the threshold of the best F1 of the set. [scores.md](scores.md)
explains the scores, and which reading of the semantic map papers mean.
"""


def page(runs: Sequence[Run]) -> Iterator[str]:
    """Give the page, part by part."""
    yield HEAD
    yield "\n## Sets\n\n| set | with public labels | measured here | published |\n|---|---|---|---|\n"
    for name, (number, source) in SETS.items():
        here = [run.sets[name].num_counted for run in runs if name in run.sets]
        yield f"| {name} | {number} | {' and '.join(map(str, dict.fromkeys(here))) or 'none'} | {source} |\n"
    for run in runs:
        yield from section(run)
    yield "\n## Frames\n\nThe frames of each set, by the names that its publisher gives them.\n"
    listed: dict[tuple[str, tuple[str, ...]], None] = {}
    for run in runs:
        listed.update({(name, part.frame_ids): None for name, part in run.sets.items()})
    for name, frame_ids in listed:
        yield f"\n<details><summary>{name}, {len(frame_ids)} frames</summary>\n\n{', '.join(frame_ids)}\n\n</details>\n"


def section(run: Run) -> Iterator[str]:
    """Give what one run measured."""
    yield f"\n## {run.about.get('checkpoint', run.name)}\n\n{facts_of(run)}\n"
    known = [name for name in SETS if name in run.sets]
    for name in [*known, *(name for name in run.sets if name not in SETS)]:
        yield from table(run.sets[name])


def table(part: RunSet) -> Iterator[str]:
    """Give the table of a set: a row for each score."""
    yield f"\n### {part.name}: {part.num_counted} frames\n\n"
    yield f"| score | {' | '.join(TITLES.values())} |\n|---|{'---|' * len(TITLES)}\n"
    for score in part.scores:
        cells = [cell(value, ends.low, ends.high) for value, ends in part.estimates(score).values()]
        yield f"| {score} | {' | '.join(cells)} |\n"


def cell(value: float, low: float, high: float) -> str:
    """Format a figure and its interval."""
    if math.isnan(value):
        return "–"
    ends = "" if math.isnan(low) else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}{ends}"


def facts_of(run: Run) -> str:
    """Say what ran, from the record of the run."""
    engine: dict[str, Any] = (run.record.get("engines") or [{}])[0]
    package = run.record.get("package") or {}
    git = package.get("git") or {}
    changed = " with changes" if git.get("changed") else ""
    commit = f", commit {git['commit'][:10]}{changed}" if git.get("commit") else ""
    facts = {
        "model, SHA-256": engine.get("checkpoint_sha256"),
        "windows": run.about.get("windows"),
        "precision": engine.get("precision"),
        "machine": ", ".join(filter(None, (engine.get("device_name"), run.record.get("machine")))),
        "software": f"eomt_ext_ros {package.get('version')}{commit}, torch {run.record.get('torch')}, "
        f"timm {run.record.get('timm')}",
        "date": run.record.get("date"),
        "list of frames, SHA-256": run.record.get("data_sha256"),
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value)


def main() -> None:
    """Write the page to standard output."""
    with exit_on_error("benchmarks.py"):
        if len(sys.argv) < 2:
            raise SystemExit("usage: python docs/benchmarks.py RUN… > docs/benchmarks.md")
        sys.stdout.writelines(page([Run.read(Path(path)) for path in sys.argv[1:]]))


if __name__ == "__main__":
    main()
