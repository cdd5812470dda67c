"""``eomt-ext evaluate``: metrics, curves and example frames of labelled data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_INTERRUPTED, print_problems
from eomt_ext_core.config import DEMO, EngineConfig, WindowConfig
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.files import printable
from eomt_ext_core.progress import progress

if TYPE_CHECKING:
    from eomt_ext_core.datasets import Dataset
    from eomt_ext_core.evaluation.dataset_run import DatasetRun
    from eomt_ext_core.evaluation.result import EvaluationResult

_PANELS = 200
_FRAMES_PER_WORKER = 4  # with fewer, starting a worker costs more than it saves


def evaluate(
    datasets: Annotated[list[Path], typer.Argument(help="folders of data sets, or folders of such folders")],
    output: options.Output,
    overwrite: options.Overwrite = False,
    checkpoint: options.Checkpoint = DEMO,
    head: options.Head = None,
    scores: options.Scores = EngineConfig.score,
    normality: options.Normality = None,
    label_values: options.LabelMeaning = None,
    split: Annotated[str | None, typer.Option(help="evaluate only this split of each data set")] = None,
    exact: Annotated[bool, typer.Option(help="keep every score: no rounding, memory grows with the data")] = False,
    save_scores: Annotated[bool, typer.Option(help="write SegmentMeIfYouCan's submission files")] = False,
    panels: Annotated[int, typer.Option(help="most frames shown in the report, worst first", min=0)] = _PANELS,
    explain: options.Explain = True,
    device: options.Device = EngineConfig.device,
    backend: options.Backend = EngineConfig.backend,
    precision: options.Precision = EngineConfig.precision,
    windows: options.Windows = WindowConfig.mode,
    blend: options.Blend = WindowConfig.blend,
    overlap: options.Overlap = WindowConfig.overlap,
    scale: options.Scale = WindowConfig.scale,
    horizon: options.Horizon = WindowConfig.horizon,
    fovea: options.Fovea = WindowConfig.fovea,
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Measure a model on labelled images: pixel and segment metrics, curves, calibration, example frames.

    The metrics are the same to the last digit with any number of workers. Exit status: 0: complete; 1: no image could
    be evaluated; 3: some image or its labels could not be read, the metrics are those of all others; 130: interrupted,
    the metrics are those of the frames so far.
    """
    from rich.console import Console
    from rich.markup import escape

    from eomt_ext_core.evaluation.dataset_run import DatasetRun
    from eomt_ext_core.evaluation.report import write_report
    from eomt_ext_core.evaluation.submission import SubmissionWriter
    from eomt_ext_core.files import check_output_folder, output_folder

    console = Console()
    names = options.score_names(scores)
    window_config = WindowConfig(windows, blend, overlap, scale, horizon, fovea)
    engine = EngineConfig(device, backend, precision, score=names[0], windows=window_config)
    options.check_sources(checkpoint, head, normality)
    check_output_folder(output, overwrite)
    opened = open_labelled(datasets, split, label_values)
    with output_folder(output, overwrite, datasets) as folder:
        run = DatasetRun(
            checkpoint=checkpoint,
            engine=engine,
            head=None if head is None else str(head.resolve()),
            scores=names,
            normality=None if normality is None else str(normality.resolve()),
            explain=explain,
            mode="exact" if exact else "streaming",
            spool_folder=None if ray else output,
            submission=SubmissionWriter(folder.resolve() / "scores", Path(checkpoint).stem) if save_scores else None,
        )
        found = [run.select(dataset) for dataset in opened]
        for dataset in opened:
            labels = (
                f"{dataset.num_labelled} labelled" if dataset.num_labelled < len(dataset.samples) else "all labelled"
            )
            name, layout = escape(printable(dataset.name)), escape(printable(dataset.layout))
            console.print(f"[bold]{name}[/bold]: {len(dataset.samples)} images, {labels} ({layout})")

        num_frames = sum(len(dataset.samples) for dataset in found)
        results = measure(run, found, workers, ray, panels)
        num_evaluated = sum(len(result.frames) for result in results)
        problems = [problem for result in results for problem in result.skipped.values()]
        write_report(results, folder, about_of(checkpoint, engine, results), record_of(results, names))
        print_tables(console, results)
        print_result(_figures(results, output, problems))
        print_problems(problems)
        if num_evaluated + len(problems) < num_frames:
            where = escape(printable(folder))
            console.print(
                f"[yellow]Interrupted:[/yellow] {num_evaluated} of {num_frames} images evaluated, see {where}",
                soft_wrap=True,
            )
            raise typer.Exit(EXIT_INTERRUPTED)
    page, metrics = (escape(printable(output / name)) for name in ("report.html", "metrics.json"))
    console.print(f"\nLook at [bold]{page}[/bold]\nmetrics: {metrics}", soft_wrap=True)
    if problems:
        console.print(f"[yellow]Incomplete:[/yellow] {num_evaluated} of {num_frames} images evaluated.")
        raise typer.Exit(EXIT_INCOMPLETE)


def open_labelled(folders: Sequence[Path], split: str | None, label_values: str | None) -> list[Dataset]:
    """Open the data sets in folders.

    Raises:
        ConfigError: if two have the same name, or ``label_values`` is no meaning of values.
        DatasetError: if a folder cannot be read, or its labels lack anomalous or normal pixels.
    """
    from eomt_ext_core.datasets import open_datasets
    from eomt_ext_core.datasets.labels import LabelValues

    meaning = None if label_values is None else LabelValues.parse(label_values)
    opened: list[Dataset] = []
    for path in folders:
        try:
            opened += open_datasets(path, split, meaning)
        except OSError as error:
            raise DatasetError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    _check_names(opened)
    for dataset in opened:
        dataset.check_kinds()
    return opened


def measure(
    run: DatasetRun, datasets: Sequence[Dataset], workers: int | None, ray: str | None = None, panels: int = _PANELS
) -> list[EvaluationResult]:
    """Evaluate data sets and show the progress; after Ctrl-C, the results are those of the images so far.

    Raises:
        DatasetError: if no image could be evaluated.
    """
    from eomt_ext_core.evaluation.dataset_run import deal_out
    from eomt_ext_core.evaluation.parallel import evaluate_shards

    num_frames = sum(len(dataset.samples) for dataset in datasets)
    num_workers = workers or _choose_workers(run.engine.device, num_frames)
    with progress("frames", num_frames) as update:
        results = evaluate_shards(
            deal_out(run, datasets, num_workers),
            ray_address=ray,
            max_panels=panels,
            progress=lambda num_done: update(num_done, ""),
        )
    problems = [problem for result in results for problem in result.skipped.values()]
    if problems and not any(result.frames for result in results):
        raise DatasetError(f"none of {num_frames} images could be evaluated; the first: {problems[0]}")
    return results


def about_of(checkpoint: str, engine: EngineConfig, results: Sequence[EvaluationResult]) -> dict[str, str]:
    """Name an evaluation to readers."""
    from eomt_ext_core.evaluation.report import said_by_engines

    return {
        "checkpoint": printable(Path(checkpoint).name if Path(checkpoint).exists() else checkpoint),
        "precision": said_by_engines(results, "precision"),
        "windows": describe_windows(engine.windows),
        "threshold": said_by_engines(results, "threshold"),
    }


def _figures(results: Sequence[EvaluationResult], output: Path, problems: Sequence[str]) -> dict[str, Any]:
    """Give the metrics of the sets without their frames, which metrics.json holds."""
    left_out = ("frames", "counts", "edges", "skipped")
    sets = [{name: value for name, value in result.to_json().items() if name not in left_out} for result in results]
    return {"output": output, "sets": sets, "problems": list(problems)}


def record_of(results: Sequence[EvaluationResult], scores: Sequence[str]) -> dict[str, Any]:
    """Record an evaluation: what each engine said of itself, the scores, and which frames it was."""
    from eomt_ext_core.about.record import make_record
    from eomt_ext_core.evaluation.result import data_digest

    engines = {tuple(sorted(engine.items())): engine for result in results for engine in result.engines}
    return make_record(engines=list(engines.values()), scores=list(scores), data_sha256=data_digest(results))


def print_tables(console: Any, results: Sequence[EvaluationResult]) -> None:
    """Print a table for each data set."""
    from rich.markup import escape
    from rich.table import Table

    from eomt_ext_core.evaluation.result import threshold_text

    for result in results:
        count = f" ({len(result.frames)} of {result.num_found} images)" if result.skipped else ""
        table = Table(title=escape(result.name) + count, title_justify="left", title_style="bold", box=None)
        table.padding = (0, 1, 0, 0)  # the widest table of figures fits 80 columns
        table.add_column("score, %", no_wrap=True)
        for column in ("AuPRC ↑", "FPR95 ↓", "AUROC ↑", "F1 ↑", "at", "sIoU ↑", "PPV ↑", "mF1 ↑", "ECE ↓"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, score in result.scores.items():
            pixel, segment = score.pixel, score.segment
            pixels = (pixel.auprc, pixel.fpr95, pixel.auroc, pixel.best_f1)
            parts = (segment.mean_siou, segment.mean_ppv, segment.mean_f1) if segment is not None else (math.nan,) * 3
            percents = [_or_dash(f"{100 * value:.2f}") for value in (*pixels, *parts, score.calibration.ece)]
            table.add_row(name, *percents[:4], threshold_text(pixel.best_threshold, ".3f"), *percents[4:])
        console.print(table)
        if result.scores:
            console.print(_threshold_table(result))
        if result.mask is not None:
            console.print(str(result.mask), markup=False, highlight=False)
        for line in result.undefined:
            console.print(f"[yellow]{line}[/yellow]")


def _threshold_table(result: EvaluationResult) -> Any:
    """Give for each score the threshold that finds 95 % and the one that marks 1 % of the normal pixels."""
    from rich.table import Table

    from eomt_ext_core.evaluation.result import threshold_text

    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("threshold", no_wrap=True)
    for column in ("95 % found", "marked", "1 % marked", "found"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, score in result.scores.items():
        pixel = score.pixel
        pairs = (pixel.fpr95_threshold, pixel.fpr95), (pixel.fpr1_threshold, pixel.tpr_at_fpr1)
        cells = [(threshold_text(at, ".5g"), _or_dash(f"{100 * rate:.2f}")) for at, rate in pairs]
        table.add_row(name, *cells[0], *cells[1])
    return table


def _or_dash(text: str) -> str:
    return "–" if text == "nan" else text


def _choose_workers(device: str, num_frames: int) -> int:
    """Choose a worker for each GPU, or for each core, but no more than the frames are worth."""
    import os

    import torch

    available = 1
    if device == "auto" and torch.cuda.is_available():
        available = torch.cuda.device_count()
    elif device in ("auto", "cpu"):
        available = os.cpu_count() or 1
    return max(1, min(available, num_frames // _FRAMES_PER_WORKER))


def _check_names(datasets: Sequence[Dataset]) -> None:
    roots: dict[str, Path] = {}
    for dataset in datasets:
        if dataset.name in roots:
            raise ConfigError(
                f"data sets must have different names, {printable(roots[dataset.name])} and {printable(dataset.root)} "
                f"are both {dataset.name!r}: evaluate them separately, or rename a folder"
            )
        roots[dataset.name] = dataset.root


def describe_windows(windows: WindowConfig) -> str:
    """Describe the settings of the windows that have an effect."""
    own = {
        "grid": f", overlap {windows.overlap}, scale {windows.scale}",
        "fovea": f", horizon {windows.horizon}, side {windows.fovea}",
    }
    return f"{windows.mode}, {windows.blend}{own.get(windows.mode, '')}"
