"""Plot of a benchmark: times of the stages, and growth of the cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eomt_ext_core.bench.config import NETWORK, STAGES
from eomt_ext_core.bench.result import BenchResult, CaseResult, Growth
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import atomic_write
from eomt_ext_core.stages import NETWORK_AND_SCORING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = dict(zip(STAGES, ("#7aa6c2", "#2f5d8a", "#d9822b", "#8fb572", "#9b8bb4"), strict=True))
_COLOURS[NETWORK_AND_SCORING] = _COLOURS[NETWORK]


def check_plotting() -> None:
    """Check that a plot can be drawn, before anything is measured.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("the plot needs matplotlib: install the extra 'bench', or pass --no-plot") from error


def write_plot(result: BenchResult, path: Path) -> None:
    """Draw a PNG: for each case a bar of stages for each variant; below, the cost over megapixels and cameras."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(result.cases) + (result.growth is not None)
    figure = Figure(figsize=(10, 2.6 * rows + 0.6), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    for row, case in enumerate(result.cases):
        _draw_case(figure.add_subplot(grid[row, :]), case, with_legend=row == 0)
    if result.growth is not None:
        _draw_megapixels(figure.add_subplot(grid[rows - 1, 0]), result.growth)
        _draw_cameras(figure.add_subplot(grid[rows - 1, 1]), result.growth)
    place = result.machine.get("GPU", result.machine["processor"])
    figure.suptitle(place, fontsize=9)
    FigureCanvasAgg(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _draw_case(axes: Axes, case: CaseResult, *, with_legend: bool) -> None:
    """Draw the stages on one bar for each variant, and a mark for the whole frame if it was measured separately."""
    names = list(case.variants)
    for row, name in enumerate(names):
        variant, start = case.variants[name], 0.0
        for stage, times in variant.stages.items():
            width = 1000 * times.median_s
            axes.barh(row, width, left=start, color=_COLOURS[stage], height=0.62)
            start += width
        if variant.frame is not None:
            frame_ms = 1000 * variant.frame.median_s
            axes.plot([frame_ms] * 2, [row - 0.4, row + 0.4], color="black", linewidth=1.4)
            axes.annotate(f"{frame_ms:.4g} ms", (max(frame_ms, start), row), (4, 0), textcoords="offset points",
                          va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_title(f"{case.model}, {case.image_hw[1]}×{case.image_hw[0]}: ms, the whole frame as a line", fontsize=9)
    _tidy(axes)
    if with_legend:
        patches = [axes.barh(0, 0, color=colour) for colour in _COLOURS.values()]
        axes.legend(patches, list(_COLOURS), fontsize=8, loc="lower right", frameon=False)


def _draw_megapixels(axes: Axes, growth: Growth) -> None:
    megapixels = [point.megapixels for point in growth.images]
    cost = [1000 * point.times.median_s / point.megapixels for point in growth.images]
    axes.plot(megapixels, cost, marker="o", color=_COLOURS["network"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(megapixels, [f"{value:.2g}" for value in megapixels])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("megapixels", fontsize=8)
    axes.set_title(f"{growth.model}, grid mode: ms per megapixel", fontsize=9)
    _tidy(axes)


def _draw_cameras(axes: Axes, growth: Growth) -> None:
    cameras = [point.num_images for point in growth.cameras]
    rate = [point.num_images / point.times.median_s for point in growth.cameras]
    axes.plot(cameras, rate, marker="o", color=_COLOURS["network"])
    axes.set_xticks(cameras)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("cameras", fontsize=8)
    axes.set_title(f"{growth.model}, grid mode: images/s together", fontsize=9)
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.2)
