"""``eomt-ext predict``: probability, mask and overlay of images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eomt_ext_core.config import EngineConfig, WindowConfig


def predict(
    inputs: Annotated[list[Path], typer.Argument(help="images, videos, or folders of them")],
    output: Annotated[Path, typer.Option(help="where the results go")],
    checkpoint: Annotated[str, typer.Option(help="model to run")] = "demo",
    probability: Annotated[str, typer.Option(help="png (16 bit, 65535 is 1), npy (float32) or none")] = "png",
    score: Annotated[str, typer.Option(help="head, msp, entropy, energy, max_logit or rba")] = EngineConfig.score,
    threshold: Annotated[float, typer.Option(help="a pixel above it is in the mask")] = EngineConfig.threshold,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = EngineConfig.device,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16")] = EngineConfig.precision,
    window_mode: Annotated[str, typer.Option(help="eomt, grid or fovea")] = WindowConfig.mode,
    scale: Annotated[float, typer.Option(help="of the image under grid windows")] = WindowConfig.scale,
    horizon: Annotated[
        float, typer.Option(help="row of the horizon over the height, for the fovea")
    ] = WindowConfig.horizon,
    fovea: Annotated[float, typer.Option(help="side of the fovea over the largest possible")] = WindowConfig.fovea,
) -> None:
    """Write what a model finds in images and videos."""
    from rich.console import Console
    from rich.progress import track

    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.evaluation.predict import PredictionWriter, list_inputs

    console = Console()
    sources = list_inputs(inputs)
    writer = PredictionWriter(output, probability)
    windows = WindowConfig(mode=window_mode, scale=scale, horizon=horizon, fovea=fovea)
    config = EngineConfig(device=device, precision=precision, score=score, threshold=threshold, windows=windows)
    engine = AnomalyEngine.load(checkpoint, config)
    num_frames = sum(source.num_frames for source in sources)
    frames = (found for source in sources for found in writer.process(source, engine))
    for _ in track(frames, "frames", total=num_frames, console=console):
        pass
    console.print(f"{len(sources)} inputs; look at [bold]{output / 'overlay'}[/bold]")
