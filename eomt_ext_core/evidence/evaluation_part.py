"""How good the model is on the data, how sure that is, and where it is worst, as ``eomt-ext evaluate`` found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eomt_ext_core.comparison.runs import Run, RunSet
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evidence.pack import Estimate, Missing, Part, facts_from, table
from eomt_ext_core.files import printable
from eomt_ext_core.intervals.bootstrap import CONFIDENCE, METRICS, NUM_RESAMPLES

_TITLES = {"auprc": "AuPRC", "fpr95": "FPR95", "mean_siou": "mean sIoU", "mean_ppv": "mean PPV", "mean_f1": "mean F1"}
_PIXEL = ("best_threshold", "best_f1", "fpr95_threshold", "fpr95", "fpr1_threshold", "tpr_at_fpr1")
_WORST = 5
_QUESTION = "How good is the model on these data, how sure is that, and where is it worst?"
_TITLE = "Accuracy"


@dataclass(frozen=True)
class Evaluation:
    """A result of ``eomt-ext evaluate``; ``source``: where it lies in the pack; ``was_given``: it was made before."""

    run: Run
    source: str
    was_given: bool

    @property
    def skipped(self) -> list[tuple[str, str, str]]:
        """Set, id and reason of frames that could not be evaluated."""
        return [
            (part.name, frame, reason)
            for part in self.run.sets.values()
            for frame, reason in part.stored.get("skipped", {}).items()
        ]


def no_evaluation() -> Part:
    """The part of a pack without figures."""
    missing = Missing(
        "there are no figures, as the model was not evaluated",
        "--data FOLDER, or --evaluation DIR of eomt-ext evaluate",
    )
    return Part(_TITLE, _QUESTION, missing=(missing,))


def evaluation_part(evaluation: Evaluation, *, has_data: bool) -> Part:
    """Give the figures of an evaluation.

    Args:
        evaluation: the result.
        has_data: whether its data are in the pack.

    Raises:
        ConfigError: if it is damaged.
    """
    try:
        return _part(evaluation, has_data)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{evaluation.run.name} is damaged: {type(error).__name__} {error}") from error


def _part(evaluation: Evaluation, has_data: bool) -> Part:
    run, source = evaluation.run, evaluation.source
    sets = run.sets.values()
    missing = [
        Missing(f"{printable(part.name)}: no frame has labels, so that there are no figures", "data with labels")
        for part in sets
        if not part.is_labelled
    ]
    labelled = [part for part in sets if part.is_labelled]
    missing += [
        Missing(f"{printable(part.name)}: what the masks find is not known", "a threshold, and `evaluate` anew")
        for part in labelled
        if part.stored.get("mask") is None
    ]
    if evaluation.skipped:
        missing.append(Missing(f"{len(evaluation.skipped)} frames could not be evaluated", "see the table of them"))
    if evaluation.was_given:
        missing.append(
            Missing("the figures are as an earlier result says, not measured anew", "leave out --evaluation")
        )
    if not has_data:
        missing.append(Missing("the frames behind these figures are not hashed", "--data FOLDER"))
    record, (first, *_) = run.record, run.record["engines"]
    package = record.get("package") or {}
    facts = {
        **{name: record.get(name) for name in ("command", "date", "python", "torch", "timm", "machine")},
        "package": package.get("version"),
        "commit": (package.get("git") or {}).get("commit"),
        "changed since the commit": (package.get("git") or {}).get("changed"),
        "windows": run.about.get("windows"),
        "threshold of the mask": run.about.get("threshold"),
        "SHA-256 of the list of frames": record.get("data_sha256"),
        **{f"engine: {name}": first.get(name) for name in ("device_name", "precision", "backend", "scoring")},
    }
    drawn = f"in brackets: intervals that hold {CONFIDENCE:g} of {NUM_RESAMPLES} bootstrap resamples of the frames"
    return Part(
        _TITLE,
        _QUESTION,
        facts_from(source, {name: value for name, value in facts.items() if value is not None}),
        (
            *table(
                "Metrics, as fractions",
                ("set", "frames", "score", *_TITLES.values(), "ECE"),
                _metrics(labelled),
                f"{source}; {drawn}. They cover the choice of frames, not that of a model by the same frames; "
                "there is none if too few resamples define the figure",
            ),
            *table(
                "Thresholds, as fractions of pixels",
                ("set", "score", "of best F1", "F1", "to find 0.95", "falsely marked", "to mark 0.01 falsely", "found"),
                _thresholds(labelled),
                source,
            ),
            *table(
                "The masks, as fractions of pixels",
                ("set", "threshold in force", "anomalous pixels found", "falsely marked"),
                _masks(labelled),
                source,
            ),
            *table(
                f"The {_WORST} worst frames of each set, by the first score",
                ("set", "frame", "score", "AuPRC", "FPR95", "anomalous pixels"),
                _worst(labelled),
                source,
            ),
            *table("Frames that could not be evaluated", ("set", "frame", "reason"), evaluation.skipped, source),
        ),
        tuple(missing),
    )


def _metrics(sets: Sequence[RunSet]) -> Iterator[tuple[Any, ...]]:
    for part in sets:
        for score in part.scores:
            found = part.estimates(score)
            cells = [Estimate(value, ends.low, ends.high) for value, ends in (found[name] for name in METRICS)]
            yield part.name, part.num_counted, score, *cells, part.stored["scores"][score]["calibration"]["ece"]


def _thresholds(sets: Sequence[RunSet]) -> Iterator[tuple[Any, ...]]:
    for part in sets:
        for score in part.scores:
            pixel = part.stored["scores"][score]["pixel"]
            yield part.name, score, *(pixel[name] for name in _PIXEL)


def _masks(sets: Sequence[RunSet]) -> Iterator[tuple[Any, ...]]:
    """What the masks find at the threshold of the model; a run from before this was measured has none."""
    for part in sets:
        mask = part.stored.get("mask")
        if mask is not None:
            yield part.name, mask["threshold"], mask["recall"], mask["false_positive_rate"]


def _worst(sets: Sequence[RunSet]) -> Iterator[tuple[Any, ...]]:
    """The frames of the lowest AuPRC; those without anomalies have none."""
    for part in sets:
        score = part.scores[0]
        precision, false_rate = part.frame_values(score, "auprc"), part.frame_values(score, "fpr95")
        known = sorted((value, frame) for frame, value in precision.items() if not math.isnan(value))
        for value, frame in known[:_WORST]:
            yield part.name, frame, score, value, false_rate[frame], part.frame_keys[frame][1]
