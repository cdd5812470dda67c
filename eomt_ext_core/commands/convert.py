"""``eomt-ext convert``: write a checkpoint of any layout as one file."""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.errors import ConfigError

CLASS_SETS = ("cityscapes", "ade20k", "coco")
"""Published lists: Cityscapes' 19 training classes, ADE20K's 150 of scene parsing, COCO's 133 panoptic ones."""

_COCO_THINGS = 80  # the first of them
_MOST_NAMES_BYTES = 1 << 20


def convert(
    source: Annotated[str, typer.Argument(help="checkpoint: file, Transformers folder, or hf://owner/name")],
    target: Annotated[Path | None, typer.Argument(help="file to write, .safetensors; or --output")] = None,
    output: Annotated[Path | None, typer.Option(help="file to write, as in other commands")] = None,
    overwrite: options.Overwrite = False,
    head: options.Head = None,
    base: Annotated[
        str | None, typer.Option(help="DINOv3 to add to a checkpoint of differences: file, folder or hf://…")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="name of one of several networks in the file, such as ema")
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            help=f"names of the semantic classes: {', '.join(CLASS_SETS)}, a text file with one on each line, or a "
            "comma-separated list"
        ),
    ] = None,
    crop: Annotated[tuple[int, int] | None, typer.Option(help="height and width of the window, in pixels")] = None,
    trained_crop: Annotated[
        tuple[int, int] | None,
        typer.Option(help="height and width of the window in training, if not square and missing from the file"),
    ] = None,
    num_heads: Annotated[int | None, typer.Option(help="attention heads, if the weights do not determine it")] = None,
    num_blocks: Annotated[
        int | None, typer.Option(help="blocks that see the queries, if the weights do not determine it")
    ] = None,
    masked_attention: Annotated[
        bool | None, typer.Option(help="use masked attention, if training ended before it was annealed away")
    ] = None,
) -> None:
    """Write a checkpoint as one safetensors file with its architecture and a known answer to test it by."""
    from eomt_ext_core.about.record import make_record, with_record
    from eomt_ext_core.engine.probing import make_probe
    from eomt_ext_core.files import check_output_file, sha256_of
    from eomt_ext_core.model.checkpoint import load_model, resolve_source, save_model

    if (target is None) == (output is None):
        raise ConfigError("give the file to write once: eomt-ext convert SOURCE --output FILE")
    written = target or output
    assert written is not None, "one of the two is given"
    check_output_file(written, overwrite, ".safetensors")
    known: dict[str, Any] = {
        "crop_hw": crop,
        "trained_crop_hw": trained_crop,
        "num_blocks": num_blocks,
        "masked_attention": masked_attention,
    }
    if num_heads is not None:
        known["backbone_overrides"] = {"num_heads": num_heads}
    known = {name: value for name, value in known.items() if value is not None}
    model = load_model(source, known, head=head, base=base, weights=weights)
    if class_names is not None:
        model.info["class_names"] = _read_names(class_names, model.config.num_classes)
    sources = {"checkpoint": source, "head": head, "base": base}
    digests = {
        f"{name}_sha256": sha256_of(resolve_source(given)) for name, given in sources.items() if given is not None
    }
    model.info = with_record(model.info, make_record(model=digests))
    save_model(model, written, make_probe(model))
    config = model.config
    print_result({"output": written, "model": asdict(config), "has_head": model.anomaly_head is not None})
    typer.echo(
        f"{written}: {config.backbone} {dict(config.backbone_overrides) or ''} "
        f"window {config.crop_hw[1]}×{config.crop_hw[0]}, "
        f"{config.num_queries} queries, {config.num_classes} classes, "
        f"{'with' if model.anomaly_head is not None else 'without'} anomaly head"
    )


def _read_names(text: str, num_classes: int) -> list[str]:
    """Read names of a published set, from a list or from a file; a list is too long for the name of a file."""
    if text in CLASS_SETS:
        names = (resources.files("eomt_ext_core") / "assets" / f"classes_{text}.txt").read_text("utf-8").splitlines()
        return names[:_COCO_THINGS] if text == "coco" and num_classes == _COCO_THINGS else names
    if "," in text or not (path := Path(text)).is_file():
        return [name.strip() for name in text.split(",")]
    if path.stat().st_size > _MOST_NAMES_BYTES:
        raise ConfigError(f"{text}: class names must have at most {_MOST_NAMES_BYTES} bytes, got {path.stat().st_size}")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{text}: class names must be UTF-8 text: {error}") from error
