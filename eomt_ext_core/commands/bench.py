"""``eomt-ext bench``: how fast the engine is on this machine, beside the ways it replaces."""

from __future__ import annotations

import itertools
import shlex
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from eomt_ext_core.bench.config import (
    NO_GROWTH,
    QUICK,
    SIZES,
    VARIANTS,
    WAYS_OF_OURS,
    BenchConfig,
    is_exported,
    parse_names,
    parse_sizes,
)
from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.progress import ProgressLines, is_hidden

_DOC = {item.name: item.metadata["doc"] for item in fields(BenchConfig)}


def bench(
    output: options.Output = Path("bench_output"),
    overwrite: options.Overwrite = False,
    sizes: Annotated[
        str | None, typer.Option(help=f"{_DOC['sizes']}: {', '.join(SIZES)}", show_default=",".join(BenchConfig.sizes))
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help=_DOC["checkpoint"])] = None,
    backend: options.Backend = BenchConfig.backend,
    precision: Annotated[str, typer.Option(help=_DOC["precision"])] = BenchConfig.precision,
    images: Annotated[
        str | None, typer.Option(help="sizes of the images, width x height", show_default="960x540,1920x1080")
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(help=f"{_DOC['variants']}: {', '.join((*VARIANTS, *WAYS_OF_OURS))}", show_default="the first six"),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help=_DOC["repeats"], min=0)] = None,
    device: Annotated[str | None, typer.Option(help=_DOC["device"], show_default="auto")] = None,
    growth_model: Annotated[str | None, typer.Option(help=_DOC["growth_model"])] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small, one image, one round: that it runs")] = False,
    plot: Annotated[bool, typer.Option(help="draw bench.png; needs matplotlib")] = True,
) -> None:
    """Measure whole frames and their stages, memory, and growth, side by side in one run."""
    from rich.console import Console

    from eomt_ext_core.bench.plot import check_plotting, write_plot
    from eomt_ext_core.bench.run import find_device, run_bench
    from eomt_ext_core.bench.table import tables
    from eomt_ext_core.files import check_output_folder, output_folder

    given: dict[str, Any] = {
        "sizes": None if sizes is None else parse_names(sizes),
        "checkpoint": checkpoint,
        "backend": backend,
        "precision": precision,
        "images_hw": None if images is None else parse_sizes(images),
        "variants": None if variants is None else parse_names(variants),
        "repeats": repeats,
        "device": device,
        "growth_model": growth_model or (NO_GROWTH if is_exported(checkpoint or "") else None),
    }
    config = replace(
        QUICK if quick else BenchConfig(), **{name: value for name, value in given.items() if value is not None}
    )
    if config.checkpoint:
        options.check_sources(config.checkpoint, None, None)
    if plot:
        check_plotting()
    check_output_folder(output, overwrite)
    runs_on = find_device(config)
    console = Console()
    command = shlex.join(["eomt-ext", *sys.argv[1:]])
    with output_folder(output, overwrite) as folder:
        with console.status("starting") as status:
            lines, steps = ProgressLines("bench", None), itertools.count(1)

            def tell(text: str) -> None:
                status.update(text)
                if not (console.is_terminal or is_hidden()):
                    lines.update(next(steps), text)

            result = run_bench(config, runs_on, command, tell)
        result.write(folder / "bench.json")
        if plot:
            write_plot(result, folder / "bench.png")
    print_result({"output": output, "result": asdict(result)})
    console.print(tables(result), width=max(110, console.width))  # the tables do not fit a narrower one
    console.print(
        f"\nFigures: [bold]{output / 'bench.json'}[/bold]" + (f"; plot: {output / 'bench.png'}" if plot else "")
    )
