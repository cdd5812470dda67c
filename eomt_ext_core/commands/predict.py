"""``eomt-ext predict``: probability, mask and overlay of images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_NOTHING, print_problems
from eomt_ext_core.config import DEMO, EngineConfig, ObstacleConfig, WindowConfig
from eomt_ext_core.files import printable
from eomt_ext_core.progress import progress
from eomt_ext_core.tracking import TrackingConfig


def predict(
    inputs: Annotated[list[Path], typer.Argument(help="images, videos, or folders of them")],
    output: options.Output,
    overwrite: options.Overwrite = False,
    checkpoint: options.Checkpoint = DEMO,
    head: options.Head = None,
    score: options.Score = EngineConfig.score,
    normality: options.Normality = None,
    probability: Annotated[str, typer.Option(help="png (16 bit, 65535 is 1), npy (float32) or none")] = "png",
    threshold: options.Threshold = EngineConfig.threshold,
    threshold_low: options.ThresholdLow = ObstacleConfig.threshold_low,
    min_area_px: options.MinArea = ObstacleConfig.min_area_px,
    tracking: options.Tracking = TrackingConfig.enabled,
    confirmed_only: options.ConfirmedOnly = ObstacleConfig.confirmed_only,
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
    """Write the anomaly probability, mask, overlay and obstacles of images and videos, and a report on all of them.

    Obstacles are followed in videos, not from image to image. A worker takes whole images and whole videos.

    Exit status: 0: complete; 1: no input could be read; 3: some input could not be read, all other results are kept;
    130: interrupted, the results so far are kept.
    """
    from rich.console import Console
    from rich.markup import escape

    from eomt_ext_core.about.record import make_record
    from eomt_ext_core.evaluation.parallel import evaluate_shards
    from eomt_ext_core.evaluation.predict import PredictRun, deal_out, is_interrupted, list_inputs
    from eomt_ext_core.evaluation.report import said_by_engines, write_report
    from eomt_ext_core.files import output_folder

    console = Console()
    window_config = WindowConfig(windows, blend, overlap, scale, horizon, fovea)
    run = PredictRun(
        checkpoint=checkpoint,
        engine=EngineConfig(device, backend, precision, score=score, threshold=threshold, windows=window_config),
        head=None if head is None else str(head.resolve()),
        normality=None if normality is None else str(normality.resolve()),
        probability=probability,
        obstacles=ObstacleConfig(threshold_low, min_area_px, confirmed_only=confirmed_only),
        tracking=TrackingConfig(enabled=tracking),
        explain=explain,
    )
    options.check_sources(checkpoint, head, normality)
    sources, unusable = list_inputs(inputs)
    with output_folder(output, overwrite, inputs) as folder:
        shards = deal_out(run, sources, folder.resolve(), None if ray else output.resolve(), workers)
        with progress("frames", sum(source.num_frames() for source in sources)) as update:
            (result,) = evaluate_shards(shards, ray_address=ray, progress=lambda num_done: update(num_done, ""))
        num_frames = len(result.frames)
        if num_frames:
            about = {"title": "Road anomalies found", "checkpoint": printable(Path(checkpoint).name), "score": score}
            about |= {name: said_by_engines([result], name) for name in ("precision", "threshold")}
            record = make_record(engines=list(result.engines), scores=[score])
            write_report(result, folder, about, record)
        problems = [*unusable, *result.skipped.values()]
        num_inputs, num_complete = len(sources) + len(unusable), len(sources) - len(result.skipped)
        print_problems(problems)
        counts = {"inputs": num_inputs, "complete": num_complete, "frames": num_frames}
        if is_interrupted(result):
            print_result({"output": folder, **counts, "problems": problems})
            raise typer.Exit(EXIT_INTERRUPTED)
    print_result({"output": output, **counts, "problems": problems})
    where = f"; look at [bold]{escape(printable(output / 'report.html'))}[/bold]" if num_frames else ""
    console.print(f"{num_complete} of {num_inputs} inputs{where}", soft_wrap=True)
    if problems:
        raise typer.Exit(EXIT_INCOMPLETE if num_frames else EXIT_NOTHING)
