"""Plot of the reliability before and after a calibration: the report's chart, twice, in an SVG that browsers open."""

from __future__ import annotations

from pathlib import Path

from eomt_ext_core.evaluation import CalibrationResult
from eomt_ext_core.evaluation.page import charts
from eomt_ext_core.files import atomic_write

_STYLE = """svg { font: 11px sans-serif; background: #fff; fill: #171b22 }
.grid line, .bar { stroke: #dfe3ea; fill: #dfe3ea } .curve { fill: none; stroke-width: 1.8 } .s0 { stroke: #1f5fd0 }
.dashed { fill: none; stroke: #5d6675; stroke-dasharray: 4 4 } .dot { fill: #fff; stroke-width: 2 }"""


def write_reliability(before: CalibrationResult, after: CalibrationResult, path: Path) -> None:
    """Write an SVG with two charts side by side, each under its expected calibration error."""
    parts = []
    for x, name, result in ((0, "before", before), (charts.WIDTH, "after", after)):
        place = f'<svg x="{x}" y="24" width="{charts.WIDTH}" height="{charts.HEIGHT}" '
        chart = charts.reliability(result).replace("<svg ", place, 1)
        parts.append(f'<text x="{x + 46}" y="18">{name}: ECE {result.ece:.5f}</text>{chart}')
    size = f'width="{2 * charts.WIDTH}" height="{charts.HEIGHT + 24}"'
    with atomic_write(path) as temporary:
        temporary.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{"".join(parts)}</svg>\n',
            encoding="utf-8",
        )
