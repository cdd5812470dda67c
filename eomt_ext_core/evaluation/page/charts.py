"""The report's charts as inline SVG. Colours come from the page's style sheet, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from eomt_ext_core.evaluation.metrics.calibration import CalibrationResult
from eomt_ext_core.evaluation.result import ScoreResult

WIDTH, HEIGHT = 340, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 42

Point = tuple[float, float]


@dataclass(frozen=True)
class _Axis:
    """The range of values along an axis; ``ticks``: value and text."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]


_FRACTION_TICKS = [(step / 5, f"{step / 5:g}") for step in range(6)]


def precision_recall(scores: Mapping[str, ScoreResult]) -> str:
    """Draw precision over recall of each score: best F1 as a dot, the fraction of anomalous pixels dashed."""
    frame = _Frame(_Axis("recall", 0, 1, _FRACTION_TICKS), _Axis("precision", 0, 1, _FRACTION_TICKS))
    fraction = next(iter(scores.values())).pixel.anomaly_fraction
    parts = [frame.line([(0, fraction), (1, fraction)], "dashed")]
    for index, (name, score) in enumerate(scores.items()):
        curve = score.curve
        parts.append(frame.line(zip(curve.recall, curve.precision, strict=True), f"curve s{index % 6}", name))
        # The best F1 of the drawn points, 2PR / (P + R).
        total = curve.precision + curve.recall
        best = int(
            np.argmax(np.divide(curve.precision * curve.recall, total, out=np.zeros_like(total), where=total > 0))
        )
        parts.append(frame.dot((curve.recall[best], curve.precision[best]), 3.5, f"dot s{index % 6}"))
    return frame.svg("Precision-recall curves", parts)


def receiver_operating(scores: Mapping[str, ScoreResult]) -> str:
    """Draw true-positive over false-positive rate of each score; dashed: chance, and the 95 % of FPR95."""
    frame = _Frame(
        _Axis("false-positive rate", 0, 1, _FRACTION_TICKS), _Axis("true-positive rate", 0, 1, _FRACTION_TICKS)
    )
    parts = [frame.line([(0, 0), (1, 1)], "dashed"), frame.line([(0, 0.95), (1, 0.95)], "dashed")]
    for index, (name, score) in enumerate(scores.items()):
        points = zip(score.curve.false_positive_rate, score.curve.recall, strict=True)
        parts.append(frame.line(points, f"curve s{index % 6}", name))
    return frame.svg("ROC curves", parts)


def reliability(calibration: CalibrationResult) -> str:
    """Draw the fraction of anomalous pixels over predicted probability; bars: pixels of each bin, on a log scale."""
    frame = _Frame(
        _Axis("predicted probability", 0, 1, _FRACTION_TICKS), _Axis("anomalous fraction", 0, 1, _FRACTION_TICKS)
    )
    parts = []
    most = max(calibration.num_pixels, default=0)
    edges = zip(calibration.bin_edges, calibration.bin_edges[1:], calibration.num_pixels, strict=False)
    for low, high, pixels in edges:
        if pixels:
            parts.append(frame.bar(low, high, 0.22 * math.log1p(pixels) / math.log1p(most), f"{pixels:,} pixels"))
    parts.append(frame.line([(0, 0), (1, 1)], "dashed"))
    points = [
        point
        for point in zip(calibration.mean_probability, calibration.anomaly_fraction, strict=True)
        if not math.isnan(point[0])
    ]
    parts.append(frame.line(points, "curve s0"))
    parts += [frame.dot(point, 3.5, "dot s0") for point in points]
    return frame.svg("Calibration", parts)


def latency(values_ms: Sequence[float]) -> str:
    """Draw the latency of each frame, in the order of the frames, in ms, or in seconds from 1 s on."""
    unit, scale = ("s", 1e-3) if max(values_ms) >= 1000 else ("ms", 1.0)
    values = [scale * value for value in values_ms]
    high, last = _round_up(max(values)), max(1, len(values) - 1)
    frame = _Frame(
        _Axis("frame", 0, last, [(step * last / 2, f"{step * last / 2:.0f}") for step in range(3)]),
        _Axis(f"latency ({unit})", 0, high, [(high * step / 4, f"{high * step / 4:g}") for step in range(5)]),
    )
    return frame.svg("Latency", [frame.line(enumerate(values), "curve s0")])


def _round_up(value: float) -> float:
    """Round up to 1, 2, 4 or 8 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(max(value, 1e-3)))
    return next(step * unit for step in (1, 2, 4, 8, 10) if step * unit >= value)


@dataclass(frozen=True)
class _Frame:
    """The axes of a chart, which draw shapes in their coordinates."""

    x: _Axis
    y: _Axis

    def line(self, points: Iterable[Point], style: str, title: str = "") -> str:
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self._place, points))
        return f'<polyline class="{style}" points="{drawn}">{_title(title)}</polyline>'

    def dot(self, point: Point, radius: float, style: str) -> str:
        x, y = self._place(point)
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'

    def bar(self, low: float, high: float, height: float, title: str) -> str:
        (left, top), (right, bottom) = self._place((low, height)), self._place((high, 0))
        size = f'width="{right - left - 1:.1f}" height="{bottom - top:.1f}"'
        return f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" {size}>{_title(title)}</rect>'

    def svg(self, label: str, parts: Sequence[str]) -> str:
        grid = []
        for value, text in self.x.ticks:
            x, _ = self._place((value, self.y.low))
            grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
            grid.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{text}</text>')
        for value, text in self.y.ticks:
            _, y = self._place((self.x.low, value))
            grid.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            grid.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        middle = (_TOP + HEIGHT - _BOTTOM) / 2
        titles = (
            f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{self.x.title}</text>'
            f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{self.y.title}</text>'
        )
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
            f'<g class="grid">{"".join(grid)}{titles}</g>{"".join(parts)}</svg>'
        )

    def _place(self, point: Point) -> Point:
        x = (point[0] - self.x.low) / (self.x.high - self.x.low)
        y = (point[1] - self.y.low) / (self.y.high - self.y.low)
        return _LEFT + x * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM)


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
