"""The page's HTML: facts, tables and charts of each set, and the parts that its scripts fill."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from statistics import median
from string import Template
from typing import Any

from eomt_ext_core.evaluation.page import charts
from eomt_ext_core.evaluation.page.data import page_data
from eomt_ext_core.evaluation.result import EvaluationResult, ScoreResult, threshold_text

_FEWEST_TIMED = 2  # below, a chart shows nothing; and a time line has one of its own
SCRIPTS = ("picture.js", "list.js", "timeline.js", "viewer.js", "start.js")


def render_page(results: Sequence[EvaluationResult], about: Mapping[str, Any]) -> str:
    """Return the page as HTML. The entry ``title`` of ``about`` is its title; all other entries are listed below it."""
    facts = dict(about)
    title = escape(str(facts.pop("title", "Evaluation of road-anomaly scores")))
    folder = resources.files("eomt_ext_core.evaluation.page")

    def read(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    with_picture = sum(len(result.panels) for result in results)
    num_frames = sum(len(result.frames) for result in results)
    more = f"Pictures are stored of {with_picture:,} of {num_frames:,} frames, the worst."
    if any(result.scores for result in results):
        more += " evaluate --panels stores more."
    return Template(read("page.html")).substitute(
        title=title,
        about="".join(
            f"<span>{escape(str(key))} <b>{escape(_words(value))}</b></span>" for key, value in facts.items()
        ),
        sets="\n".join(_set_section(result) for result in results),
        style=read("style.css"),
        scripts="\n".join(read(name) for name in SCRIPTS),
        data=page_data(results),
        left_out=f'<p class="soft">{more}</p>' if with_picture < num_frames else "",
    )


def _set_section(result: EvaluationResult) -> str:
    num_frames, labelled = len(result.frames), result.num_labelled
    facts = [f"{num_frames:,} of {result.num_found:,} frames" if result.skipped else f"{num_frames:,} frames"]
    if labelled < num_frames:
        facts.append(f"{labelled:,} with labels" if labelled else "no labels")
    if result.scores:
        pixel = next(iter(result.scores.values())).pixel
        facts.append(f"{pixel.num_valid:,} valid pixels, {_percent(pixel.anomaly_fraction)} % anomalous")
        facts.append(f"segments of the {result.track} track")
    if result.latency_ms:
        facts.append(f"median {median(result.latency_ms.values()):.0f} ms a frame")
    figures = []
    if result.scores:
        name, main = next(iter(result.scores.items()))
        if main.pixel.num_anomalous:
            figures.append(("Precision-recall, dot: best F1", charts.precision_recall(result.scores)))
            if main.pixel.num_anomalous < main.pixel.num_valid:
                figures.append(("ROC", charts.receiver_operating(result.scores)))
        figures.append((f"Calibration of {name}", charts.reliability(main.calibration)))
    if len(result.latency_ms) > _FEWEST_TIMED and not any(detail.sequence for detail in result.details.values()):
        figures.append(("Latency", charts.latency(list(result.latency_ms.values()))))
    lines = [] if result.mask is None else [str(result.mask)]
    notes = "".join(f'<p class="soft">{escape(line)}</p>' for line in [*lines, *result.undefined])
    drawn = "".join(f"<div><h3>{escape(title)}</h3>{svg}</div>" for title, svg in figures)
    drawn = f'<div class="charts">{drawn}</div>' if drawn else ""
    return (
        f'<section class="card"><div class="head"><h2>{escape(result.name)}</h2>'
        f'<span class="soft">{", ".join(facts)}</span></div>{_skipped(result.skipped)}{_table(result)}'
        f"{notes}{drawn}</section>"
    )


def _skipped(problems: Mapping[str, str]) -> str:
    """List the frames that are not in the metrics, and why."""
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems.values())
    return f"<details><summary>Could not be read: {len(problems):,}</summary><ul>{items}</ul></details>"


# Title, value, and whether larger is better.
_COLUMNS: tuple[tuple[str, Callable[[ScoreResult], float], bool], ...] = (
    ("AuPRC ↑", lambda score: score.pixel.auprc, True),
    ("FPR95 ↓", lambda score: score.pixel.fpr95, False),
    ("AUROC ↑", lambda score: score.pixel.auroc, True),
    ("best F1 ↑", lambda score: score.pixel.best_f1, True),
    ("mean sIoU ↑", lambda score: score.segment.mean_siou if score.segment else math.nan, True),
    ("mean PPV ↑", lambda score: score.segment.mean_ppv if score.segment else math.nan, True),
    ("mean F1 ↑", lambda score: score.segment.mean_f1 if score.segment else math.nan, True),
    ("ECE ↓", lambda score: score.calibration.ece, False),
)


def _table(result: EvaluationResult) -> str:
    scores = result.scores
    if not scores:
        return ""
    best: list[float] = []
    for _, value_of, larger in _COLUMNS:
        values = [value for score in scores.values() if not math.isnan(value := value_of(score))]
        best.append((max(values) if larger else min(values)) if len(values) > 1 else math.nan)
    rows = []
    for index, (name, score) in enumerate(scores.items()):
        values = [value_of(score) for _, value_of, _ in _COLUMNS]
        cells = [
            f"<td{' class=best' if value == top else ''}>{_percent(value)}</td>"
            for value, top in zip(values, best, strict=True)
        ]
        cells.insert(4, f"<td>{_threshold(score.pixel.best_threshold)}</td>")
        cells += [f"<td>{_threshold(at)}</td>" for at in (score.pixel.fpr95_threshold, score.pixel.fpr1_threshold)]
        key = f'<i class="key" style="background:var(--s{index % 6})"></i>'
        rows.append(f"<tr><td>{key}{escape(name)}</td>{''.join(cells)}</tr>")
    titles = [title for title, _, _ in _COLUMNS]
    titles.insert(4, "at")
    titles += ["95 % found at", "1 % false at"]
    head = "".join(f"<th>{title}</th>" for title in ["score, in %", *titles])
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    label = f"Metrics of {escape(result.name)}"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(item)}" for key, item in value.items())
    return "; ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _threshold(value: float) -> str:
    return escape(threshold_text(value, ".4f"))
