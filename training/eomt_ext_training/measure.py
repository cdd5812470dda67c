"""Measure every score of a model on labelled crops, and its false alarms on crops without anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch.utils.data import Dataset

from eomt_ext_core.config import SCORES, EngineConfig
from eomt_ext_core.datasets.labels import NORMAL
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.evaluation import PixelMetrics, PixelResult
from eomt_ext_core.evaluation.metrics.pixel_metrics import exceeds
from eomt_ext_core.exits import exit_on_error
from eomt_ext_core.model.checkpoint import load_model
from eomt_ext_core.progress import tracked
from eomt_ext_training.data.anomaly_data import JoinedSamples
from eomt_ext_training.data.sample import AnomalyDataset
from eomt_ext_training.targets import with_label_map


def measure(engine: AnomalyEngine, data: AnomalyDataset, scores: Sequence[str]) -> dict[str, PixelResult]:
    """Compute the pixel metrics of several scores on a data set, from one pass of the network."""
    metrics = {score: PixelMetrics() for score in scores}
    for index in tracked(range(len(data)), "measuring", len(data)):
        sample = with_label_map(data[index])
        maps = engine.score_maps(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()), scores)
        for score, values in maps.items():
            metrics[score].update(values, sample.labels.numpy())
    return {score: counted.compute() for score, counted in metrics.items()}


def false_alarms(engine: AnomalyEngine, data: AnomalyDataset, thresholds: dict[str, float]) -> dict[str, float]:
    """Compute the fraction of the normal pixels of a data set with a score above a threshold.

    Raises:
        DatasetError: if there are no normal pixels.
    """
    above, total = dict.fromkeys(thresholds, 0), 0
    for index in tracked(range(len(data)), "false alarms", len(data)):
        sample = with_label_map(data[index])
        known = sample.labels.numpy() == NORMAL
        total += int(known.sum())
        maps = engine.score_maps(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()), list(thresholds))
        for score, values in maps.items():
            above[score] += int(exceeds(values[known], thresholds[score]).sum())
    if not total:
        raise DatasetError("false alarms need normal pixels, got none")
    return {score: count / total for score, count in above.items()}


def report(
    checkpoint: str,
    pasted: Dataset,  # type: ignore[type-arg]
    clear: Dataset | None = None,  # type: ignore[type-arg]
    scores: Sequence[str] = SCORES,
    output: Path | None = None,
) -> None:
    """Print a table, and write it as Markdown to ``output``, if given.

    Args:
        checkpoint: as for ``eomt_ext_core.load_model``.
        pasted: data with anomalies.
        clear: data without anomalies, for false alarms at the threshold with a TPR of 95 % on ``pasted``.
        scores: names of the scores.
        output: Markdown file.
    """
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    if problem := JoinedSamples([pasted]).census().problem():
        raise DatasetError(f"the pasted data: {problem}")
    engine = AnomalyEngine(load_model(checkpoint), EngineConfig(score=scores[0]))
    results = measure(engine, cast(AnomalyDataset, pasted), scores)
    columns = ["score", "AuPRC", "FPR95", "AUROC"]
    rows = [[score, *(f"{value:.3f}" for value in (r.auprc, r.fpr95, r.auroc))] for score, r in results.items()]
    if clear is not None:
        thresholds = {score: result.fpr95_threshold for score, result in results.items()}
        alarms = false_alarms(engine, cast(AnomalyDataset, clear), thresholds)
        columns.append("FPR without anomalies")
        rows = [[*row, f"{alarms[row[0]]:.3f}"] for row in rows]
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    first = next(iter(results.values()))
    console = Console()
    console.print(table, f"{first.num_valid} valid pixels, {100 * first.anomaly_fraction:.2f} % of them anomalous")
    if output is not None:
        lines = [columns, ["---"] * len(columns), *rows]
        output.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Run the command; report whatever ends it early in one line."""
    with exit_on_error("measure"):
        run()


def run() -> None:
    """Run the command line."""
    auto_cli(report, as_positional=False)


if __name__ == "__main__":
    main()
