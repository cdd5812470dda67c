"""``eomt-ext export``: write a model as one file for vehicle computers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.export.export_config import ExportConfig


def export(
    checkpoint: Annotated[str, typer.Argument(help="checkpoint: file, Transformers folder, hf://owner/name or demo")],
    output: Annotated[Path, typer.Option(help="file to write: .onnx or .pt2, matching the format")],
    overwrite: options.Overwrite = False,
    head: options.Head = None,
    format: Annotated[str, typer.Option(help="onnx, or pt2 for PyTorch's AOTInductor")] = ExportConfig.format,
    scores: options.ExportedScores = EngineConfig.score,
    semantic: Annotated[bool, typer.Option(help="export the semantic classes too")] = ExportConfig.semantic,
    precision: Annotated[str, typer.Option(help="of the network: fp32, fp16, or int8")] = ExportConfig.precision,
    batch: Annotated[int, typer.Option(help="windows in each call; 0 for any number")] = (ExportConfig.batch),
    score_stride: Annotated[int, typer.Option(help="score every pixel, or every 2nd or 4th: 1, 2 or 4")] = (
        ExportConfig.score_stride
    ),
    opset: Annotated[int, typer.Option(help="version of the ONNX operator set")] = ExportConfig.opset,
    calibration: Annotated[
        Path | None, typer.Option(help="for int8: folder of images like those of the vehicle, without labels")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="for int8: labelled images as for evaluate; AuPRC may fall by 1 point there")
    ] = None,
    device: Annotated[str, typer.Option(help="target of a pt2 file: cpu, cuda or cuda:N")] = ExportConfig.device,
) -> None:
    """Write a model as one file that runs without this package, after comparing it with the engine."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from eomt_ext_core.about.record import make_record, with_record
    from eomt_ext_core.commands.int8_check import calibration_images, check_auprc
    from eomt_ext_core.datasets import open_datasets
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.export.exporting import export_model
    from eomt_ext_core.files import check_output_file, printable, sha256_of
    from eomt_ext_core.model.checkpoint import load_model, resolve_source

    names = options.score_names(scores)
    config = ExportConfig(
        format=format,
        scores=names,
        semantic=semantic,
        precision=precision,
        batch=batch,
        score_stride=score_stride,
        opset=opset,
        device=device,
    )
    config.check_target(output)
    check_output_file(output, overwrite)
    if (precision == "int8") != (calibration is not None) or (calibration is None) != (check is None):
        raise ConfigError("--precision int8 needs --calibration and --check, and no other precision takes them")
    images = () if calibration is None else calibration_images(calibration)
    checked = [] if check is None else open_datasets(check)
    sources = {"checkpoint_sha256": checkpoint} | ({} if head is None else {"head_sha256": str(head)})
    origin = {name: sha256_of(resolve_source(source)) for name, source in sources.items()}
    model, lines = load_model(checkpoint, head=head), list[str]()
    model.info = with_record(model.info, make_record(model=origin, precision=precision, device=device))

    def accept(path: Path) -> None:
        if checked:
            exact = AnomalyEngine(
                model, EngineConfig("cpu", precision="fp32", score=names[0], score_stride=score_stride)
            )
            lines.extend(check_auprc(exact, path, names, checked))

    differences = export_model(model, output, config, origin, images, accept)

    print_result(
        {"output": output, "bytes": output.stat().st_size, "differences": [vars(item) for item in differences]}
    )
    table = Table()
    for column in ("score", "difference", "allowed"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for item in differences:
        table.add_row(item.score, f"{item.difference:.2e}", f"{item.allowed:.2e}")
    console = Console()
    console.print("Largest difference from the engine in fp32, on drawn road scenes:")
    console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{escape(printable(output))}: {output.stat().st_size / 1e6:.1f} MB, {precision}", soft_wrap=True)
