"""``eomt-ext predict``: probability, mask and overlay of images and videos."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, EXIT_NOTHING, print_problems
from eomt_ext_core.config import DEMO, EngineConfig, ObstacleConfig, WindowConfig
from eomt_ext_core.errors import ImageError, InferenceError
from eomt_ext_core.files import message_with_path, printable
from eomt_ext_core.progress import progress
from eomt_ext_core.tracking import TrackingConfig, check_confirmed_only


def predict(
    inputs: Annotated[list[Path], typer.Argument(help="images, videos, or folders of them")],
    output: options.Output,
    checkpoint: Annotated[str, typer.Option(help="model to run")] = DEMO,
    head: options.Head = None,
    probability: Annotated[str, typer.Option(help="png (16 bit, 65535 is 1), npy (float32) or none")] = "png",
    overwrite: options.Overwrite = False,
    score: options.Score = EngineConfig.score,
    normality: options.Normality = None,
    threshold: Annotated[
        float, typer.Option(help="probability above which a pixel is in the mask")
    ] = EngineConfig.threshold,
    device: options.Device = EngineConfig.device,
    backend: options.Backend = EngineConfig.backend,
    precision: options.Precision = EngineConfig.precision,
    windows: options.Windows = WindowConfig.mode,
    scale: options.Scale = WindowConfig.scale,
    horizon: options.Horizon = WindowConfig.horizon,
    fovea: options.Fovea = WindowConfig.fovea,
    tracking: options.Tracking = TrackingConfig.enabled,
    confirmed_only: options.ConfirmedOnly = ObstacleConfig.confirmed_only,
    explain: options.Explain = True,
) -> None:
    """Write the anomaly probability, mask, overlay and obstacles of images and videos, and a report on all of them.

    Obstacles are followed in videos, not from image to image.

    Exit status: 0: complete; 1: no input could be read; 3: some input could not be read, all other results are kept.
    """
    from rich.console import Console
    from rich.markup import escape

    from eomt_ext_core.about.record import make_record
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.evaluation.predict import PredictionWriter, list_inputs
    from eomt_ext_core.evaluation.report import write_report
    from eomt_ext_core.evaluation.run import Evaluator
    from eomt_ext_core.files import output_folder

    console = Console()
    sources, unusable = list_inputs(inputs)
    problems, num_complete, num_frames = list(unusable), 0, 0
    window_config = WindowConfig(mode=windows, scale=scale, horizon=horizon, fovea=fovea)
    config = EngineConfig(device, backend, precision, score=score, threshold=threshold, windows=window_config)
    obstacle_config, tracking_config = ObstacleConfig(confirmed_only=confirmed_only), TrackingConfig(enabled=tracking)
    check_confirmed_only(obstacle_config, tracking_config)
    with output_folder(output, overwrite, inputs) as folder, ExitStack() as reporting:
        engine = AnomalyEngine.load(checkpoint, config, head, normality=normality)
        evaluator = reporting.enter_context(
            Evaluator([score], name="inputs", mask_threshold=engine.threshold, spool_folder=output)
        )
        writer = PredictionWriter(folder, probability, obstacle_config, tracking_config, evaluator, explain)
        with progress("frames", sum(source.num_frames() for source in sources)) as update:
            for source in sources:
                try:
                    for _ in writer.process(source, engine):
                        num_frames += 1
                        update(num_frames, "")
                    num_complete += 1
                except (ImageError, InferenceError) as error:
                    problems.append(message_with_path(source.path, error))
        if num_frames:
            engine_facts = engine.describe()
            about = {"title": "Road anomalies found", "checkpoint": printable(Path(checkpoint).name), "score": score}
            record = make_record(engines=[engine_facts], scores=[score])
            write_report(evaluator.result(), folder, about | {"threshold": engine_facts["threshold"]}, record)
    print_problems(problems)
    num_inputs = len(sources) + len(unusable)
    counts = {"inputs": num_inputs, "complete": num_complete, "frames": num_frames}
    print_result({"output": output, **counts, "problems": problems})
    where = f"; look at [bold]{escape(printable(output / 'report.html'))}[/bold]" if num_frames else ""
    console.print(f"{num_complete} of {num_inputs} inputs{where}", soft_wrap=True)
    if problems:
        raise typer.Exit(EXIT_INCOMPLETE if num_frames else EXIT_NOTHING)
