"""What the scripts of the page read: frames, thresholds and pictures, as JSON inside the page."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from eomt_ext_core.evaluation.panels import Panel
from eomt_ext_core.evaluation.result import EvaluationResult, FrameResult, FrameScore
from eomt_ext_core.files import without_nan
from eomt_ext_core.visualization import colours_rgb

_MOST_ROWS = 20  # of the obstacles of a frame


def page_data(results: Sequence[EvaluationResult]) -> str:
    """Return the data as JSON that is safe inside a script element; the worst frames come first."""
    cards = [(number, frame) for number, result in enumerate(results) for frame in result.frames]
    cards.sort(key=lambda card: card[1].badness)
    content = {
        "colours": colours_rgb("turbo").tolist(),
        "sets": [_set(result) for result in results],
        "frames": [{"set": number, **_frame(results[number], frame)} for number, frame in cards],
    }
    return json.dumps(without_nan(content), separators=(",", ":")).replace("<", "\\u003c")


def _set(result: EvaluationResult) -> dict[str, Any]:
    """Give a set with the threshold of each score: of the best F1 if there are labels.

    Without, the first has that of the run, and others 1, above which nothing lies, as theirs are not known.
    """
    names = list(next((panel.levels for panel in result.panels.values()), {}))
    thresholds = {name: 1.0 if number else result.mask_threshold for number, name in enumerate(names)}
    best = {name: score.pixel.best_threshold for name, score in result.scores.items()}
    best = {name: value for name, value in best.items() if not math.isnan(value)}
    return {
        "name": result.name,
        "scores": names,
        "thresholds": thresholds | best,
        "found": result.mask_threshold,
        "origin": "of the best F1" if best else "of the run",
    }


def _frame(result: EvaluationResult, frame: FrameResult) -> dict[str, Any]:
    detail, panel = result.details.get(frame.frame_id), result.panels.get(frame.frame_id)
    found: dict[str, Any] = {
        "id": frame.frame_id,
        "size": frame.size_hw[::-1],
        "mask": frame.mask_fraction,
        "largest": frame.largest_probability,
        "latency": result.latency_ms.get(frame.frame_id),
    }
    if frame.scores:
        found |= {
            "anomalous": frame.num_anomalous,
            "scores": {name: _score(each) for name, each in frame.scores.items()},
        }
    if detail is not None:
        rows = detail.obstacles[:_MOST_ROWS]
        found |= {"rows": rows, "obstacles": len(detail.obstacles), "health": detail.health}
        if detail.sequence:
            found |= {"sequence": detail.sequence, "index": detail.index, "time": detail.time_s}
            found |= {"video": detail.video, "videoTime": detail.video_s}
    return found if panel is None else found | {"panel": _panel(panel)}


def _score(score: FrameScore) -> dict[str, float]:
    rates = {"recall": score.recall, "falsePositives": score.false_positive_rate}
    return {"auprc": score.auprc, "fpr95": score.fpr95, **rates}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "image": _text(panel.image),
        "truth": None if panel.truth is None else _text(panel.truth),
        "levels": {name: [*struct.unpack("<ff", data[:8]), _text(data[8:])] for name, data in panel.levels.items()},
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
