"""``eomt-ext``: the commands of the core, and those that other packages add to it."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from eomt_ext_core.commands.bench import bench
from eomt_ext_core.commands.evaluate import evaluate
from eomt_ext_core.commands.export import export
from eomt_ext_core.commands.learn_normal import learn_normal
from eomt_ext_core.commands.predict import predict
from eomt_ext_core.exits import explained

COMMAND_GROUP = "eomt_ext.commands"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Road-anomaly perception with EoMT-EXT.")


app.command()(bench)
app.command()(evaluate)
app.command()(export)
app.command()(learn_normal)
app.command()(predict)


@app.callback()
def _group() -> None:
    """Road-anomaly perception with EoMT-EXT."""


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="checkpoint: file, folder of Transformers, or hf://owner/name")],
    target: Annotated[Path, typer.Argument(help="file to write, .safetensors")],
    head: Annotated[Path | None, typer.Option(help="separate file with the anomaly head")] = None,
    crop: Annotated[tuple[int, int] | None, typer.Option(help="crop height and width, in pixels")] = None,
    trained_crop: Annotated[
        tuple[int, int] | None, typer.Option(help="those it was trained at, if not square and the file does not say")
    ] = None,
    num_heads: Annotated[int | None, typer.Option(help="attention heads, where the weights leave them open")] = None,
    num_blocks: Annotated[
        int | None, typer.Option(help="blocks that see the queries, where they are left open")
    ] = None,
    masked_attention: Annotated[bool | None, typer.Option(help="where training stopped while annealing it")] = None,
) -> None:
    """Write a checkpoint as one safetensors file that holds its architecture."""
    from eomt_ext_core.model.checkpoint import load_model, save_model

    known: dict[str, Any] = {
        "crop_hw": crop,
        "trained_crop_hw": trained_crop,
        "num_blocks": num_blocks,
        "masked_attention": masked_attention,
    }
    if num_heads is not None:
        known["backbone_overrides"] = {"num_heads": num_heads}
    model = load_model(source, {name: value for name, value in known.items() if value is not None}, head=head)
    save_model(model, target)
    config = model.config
    typer.echo(
        f"{target}: {config.backbone} {dict(config.backbone_overrides) or ''} "
        f"crop {config.crop_hw[1]}×{config.crop_hw[0]}, "
        f"{config.num_queries} queries, {config.num_classes} classes, "
        f"{'with' if model.anomaly_head is not None else 'without'} anomaly head"
    )


def main() -> None:
    """Run a command; whatever ends it early is told in one line."""
    with explained("eomt-ext"):
        for entry in entry_points(group=COMMAND_GROUP):
            app.command(entry.name)(entry.load())
        app()


if __name__ == "__main__":
    main()
