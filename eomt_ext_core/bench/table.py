"""A benchmark's result as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table

from eomt_ext_core.bench.config import SCORING, STAGES, STAGES_OF_EXPORTED
from eomt_ext_core.bench.result import BenchResult, CaseResult, Growth, GrowthPoint

_NOTHING = "–"


def tables(result: BenchResult) -> Group:
    """Format a result: the machine, two tables for each case, and the growth."""
    return Group(*_parts(result))


def _parts(result: BenchResult) -> Iterator[Table | str]:
    machine = Table(box=None, show_header=False, pad_edge=False)
    for name, text in result.machine.items():
        machine.add_row(name, text)
    for precision, rate in result.ceiling_flops_per_s.items():
        machine.add_row(f"{precision} ceiling", f"{rate / 1e9:.0f} GFLOP/s, matrix products alone, best of this run")
    yield machine
    for case in result.cases:
        yield from ("", _time_table(case), "", _ratio_table(case))
    if result.growth is not None:
        yield from ("", _growth_table(result.growth, "size of the image", result.growth.images))
        yield from ("", _growth_table(result.growth, "number of cameras", result.growth.cameras))
    for variant, reason in result.not_measured.items():
        yield f"{variant}: not measured, {reason}"


def _time_table(case: CaseResult) -> Table:
    """Format the milliseconds of the stages and of the whole frame."""
    rounds = next(iter(case.variants.values())).rounds
    title = f"{case.model}, {case.image_hw[1]}×{case.image_hw[0]}, {case.num_windows} windows: ms, median of {rounds}"
    columns = STAGES if case.network_flops is not None else STAGES_OF_EXPORTED
    table = _new_table(title, ("variant", *columns, "frame", "p99"))
    for variant, result in case.variants.items():
        stages = [_ms(result.stages[stage].median_s) if stage in result.stages else _NOTHING for stage in columns]
        frame = [_NOTHING] * 2 if result.frame is None else [_ms(result.frame.median_s), _ms(result.frame.p99_s)]
        table.add_row(variant, *stages, *frame)
    return table


def _ratio_table(case: CaseResult) -> Table:
    """Format rates, speed-ups and memory."""
    columns = ("frames/s", "frame ×", "scoring ×", "peak MiB", "held MiB", "network %", "frame %", "max |Δp|")
    title = "the same; what an exported file needs is not counted"
    if case.network_flops is not None and case.scoring_flops is not None:
        gflops = f"{case.network_flops / 1e9:.3g} + {case.scoring_flops / 1e9:.3g} GFLOP"
        title = f"the same; network and scoring need {gflops}, % are of the ceiling"
    table = _new_table(title, ("variant", *columns))
    for variant, result in case.variants.items():
        memory = [f"{size / 2**20:.0f}" for size in (result.memory.peak, result.memory.held)]
        fraction = result.network_ceiling_fraction
        network = _NOTHING if fraction is None else f"{100 * fraction:.0f}"
        if result.frame is None:
            table.add_row(variant, *[_NOTHING] * 5, network, *[_NOTHING] * 2)
            continue
        speedups = case.speedup(variant), case.speedup(variant, SCORING)
        difference = result.largest_difference
        table.add_row(
            variant,
            f"{1 / result.frame.median_s:.3g}",
            *(_NOTHING if ratio is None else f"{ratio:.1f}" for ratio in speedups),
            *memory,
            network,
            _NOTHING if result.frame_ceiling_fraction is None else f"{100 * result.frame_ceiling_fraction:.0f}",
            _NOTHING if difference is None else f"{difference:.1e}",
        )
    return table


def _growth_table(growth: Growth, over: str, points: Sequence[GrowthPoint]) -> Table:
    columns = ("images", "megapixels", "windows", "ms", "ms/megapixel", "images/s")
    table = _new_table(f"{growth.model} in {growth.precision}, grid mode, over the {over}", columns)
    for point in points:
        seconds, megapixels = point.times.median_s, point.megapixels
        images = f"{point.num_images} × {point.image_hw[1]}×{point.image_hw[0]}"
        rates = _ms(seconds / megapixels), f"{point.num_images / seconds:.3g}"
        table.add_row(images, f"{megapixels:.2f}", str(point.num_windows), _ms(seconds), *rates)
    return table


def _new_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _ms(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
