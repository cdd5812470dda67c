"""The page ``report.html``: a single file that opens without a network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from statistics import median
from string import Template
from typing import Any

from eomt_ext_core.evaluation import charts
from eomt_ext_core.evaluation.panels import Panel
from eomt_ext_core.evaluation.result import EvaluationResult, FrameResult, ScoreResult


def render_page(results: Sequence[EvaluationResult], about: Mapping[str, Any]) -> str:
    """Return the page as HTML. The entry ``title`` of ``about`` is its title; all other entries are listed below it."""
    facts = dict(about)
    title = escape(str(facts.pop("title", "Evaluation of road-anomaly scores")))
    cards = [(result, frame) for result in results for frame in result.frames if frame.frame_id in result.panels]
    cards.sort(key=lambda card: card[1].badness)
    num_left_out = sum(len(result.frames) for result in results) - len(cards)
    more = f"{num_left_out:,} more frames are not shown; their metrics are in metrics.json."
    template = resources.files("eomt_ext_core.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=title,
        about="".join(
            f"<span>{escape(str(key))} <b>{escape(_words(value))}</b></span>" for key, value in facts.items()
        ),
        sets="\n".join(_set_section(result) for result in results),
        set_options="".join(f"<option>{escape(result.name)}</option>" for result in results),
        sets_hidden=" hidden" if len(results) == 1 else "",
        auprc_hidden="" if any(result.scores for result in results) else " hidden",
        frames="\n".join(_frame_card(result, frame) for result, frame in cards),
        frames_hidden="" if cards else " hidden",
        left_out=f'<p class="soft">{more}</p>' if num_left_out else "",
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
    if result.latency_ms:
        figures.append(("Latency", charts.latency(list(result.latency_ms.values()))))
    notes = "".join(f'<p class="soft">{escape(line)}</p>' for line in result.undefined)
    drawn = "".join(f"<div><h3>{escape(title)}</h3>{svg}</div>" for title, svg in figures)
    return (
        f'<section class="card"><div class="head"><h2>{escape(result.name)}</h2>'
        f'<span class="soft">{", ".join(facts)}</span></div>{_skipped(result.skipped)}{_table(result.scores)}'
        f'{notes}<div class="charts">{drawn}</div></section>'
    )


def _skipped(problems: Mapping[str, str]) -> str:
    """List the frames that are not in the metrics, and why."""
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems.values())
    return f"<details><summary>{len(problems):,} frames could not be read</summary><ul>{items}</ul></details>"


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


def _table(scores: Mapping[str, ScoreResult]) -> str:
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
        cells.insert(4, f"<td>{_number(score.pixel.best_threshold)}</td>")
        key = f'<i class="key" style="background:var(--s{index % 6})"></i>'
        rows.append(f"<tr><td>{key}{escape(name)}</td>{''.join(cells)}</tr>")
    titles = [title for title, _, _ in _COLUMNS]
    titles.insert(4, "threshold")
    head = "".join(f"<th>{title}</th>" for title in ["score, in %", *titles])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _frame_card(result: EvaluationResult, frame: FrameResult) -> str:
    name, first = next(iter(frame.scores.items()), ("", None))
    figures = [f"{escape(result.name)}"]
    if first is not None:
        figures += [
            f"{escape(name)} AuPRC <b>{_percent(first.auprc)}</b> %",
            f"FPR95 <b>{_percent(first.fpr95)}</b> %",
            f"recall <b>{_percent(first.recall)}</b> %",
            f"false positives <b>{_percent(first.false_positive_rate)}</b> %",
            f"{frame.num_anomalous:,} anomalous px",
        ]
    else:
        figures.append(f"mask <b>{_percent(frame.mask_fraction)}</b> % of the image")
    if frame.frame_id in result.latency_ms:
        figures.append(f"{result.latency_ms[frame.frame_id]:.0f} ms")
    auprc = "" if first is None or math.isnan(first.auprc) else f"{first.auprc:.6f}"
    return (
        f'<article class="card frame" data-name="{escape(frame.frame_id)}" data-set="{escape(result.name)}" '
        f'data-auprc="{auprc}"><h3>{escape(frame.frame_id)}</h3>'
        f'<div class="figures">{"".join(f"<span>{figure}</span>" for figure in figures)}</div>'
        f"{_thumbnails(result.panels[frame.frame_id], frame.frame_id)}</article>"
    )


def _thumbnails(panel: Panel, frame_id: str) -> str:
    named = {"image": panel.image, "ground truth": panel.truth, "probability": panel.heatmap, "mask": panel.mask}
    figures = [
        f'<figure><img alt="{name} of {escape(frame_id)}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(data).decode()}"><figcaption>{name}</figcaption></figure>'
        for name, data in named.items()
        if data is not None
    ]
    return f'<div class="thumbnails{" three" if len(figures) == 3 else ""}">{"".join(figures)}</div>'


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(item)}" for key, item in value.items())
    return "; ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
