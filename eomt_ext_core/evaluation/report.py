"""Files of an evaluation: ``metrics.json``, ``timing.json`` and one self-contained ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eomt_ext_core.evaluation.page import render_page
from eomt_ext_core.evaluation.result import EvaluationResult
from eomt_ext_core.files import atomic_write, valid_text


def said_by_engines(results: Sequence[EvaluationResult], name: str) -> str:
    """Give what the engines of a run say of themselves, such as ``threshold``, with its origin, or ``precision``."""
    return "; ".join(dict.fromkeys(engine[name] for result in results for engine in result.engines))


def write_report(
    results: EvaluationResult | Sequence[EvaluationResult],
    folder: str | Path,
    about: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write the results into a folder, which is created if it is missing.

    ``metrics.json`` is the same to the last digit for the same frames and any number of workers, but for ``record``.
    ``timing.json`` holds the latency of each frame in ms. ``report.html`` opens without a network.

    Args:
        results: of one or several sets.
        folder: of the files.
        about: facts on the run for readers, such as the checkpoint: JSON values, copied to the files.
        record: from :func:`~eomt_ext_core.about.record.make_record`; goes into ``metrics.json``.
    """
    sets = [results] if isinstance(results, EvaluationResult) else list(results)
    facts = valid_text(dict(about or {}))
    metrics: dict[str, Any] = {"format": 1, "about": facts, "sets": [valid_text(result.to_json()) for result in sets]}
    if record is not None:
        metrics["record"] = valid_text(dict(record))
    timing = {result.name: result.latency_ms for result in sets}
    texts = {
        "metrics.json": json.dumps(metrics, indent=2, allow_nan=False) + "\n",
        "timing.json": json.dumps(timing, indent=2, allow_nan=False) + "\n",
        "report.html": valid_text(render_page(sets, facts)),
    }
    for name, text in texts.items():
        with atomic_write(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
