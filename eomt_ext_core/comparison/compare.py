"""Differences between runs over the same frames, with paired bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eomt_ext_core.comparison.runs import Run, RunSet
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.intervals.bootstrap import METRICS, Interval, interval, resamples

_LISTED = 4


@dataclass(frozen=True)
class Difference:
    """A metric of a set in two runs; ``interval``: of the difference, NaN if it cannot be drawn anew."""

    set_name: str
    score: str
    metric: str
    before: float
    after: float
    interval: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class FrameChange:
    """A figure of a frame in all runs, in their order; the first is what the others are compared with."""

    set_name: str
    frame_id: str
    values: tuple[float, ...]

    @property
    def change(self) -> float:
        """The largest difference from the first run, negative for a loss; 0 if one of the two is undefined."""
        found = [value - self.values[0] for value in self.values[1:]]
        return max((value for value in found if not math.isnan(value)), key=abs, default=0.0)


def check_same_frames(runs: Sequence[Run]) -> None:
    """Check that runs have the same sets, frames and labels.

    Raises:
        ConfigError: naming the runs and what only one of them has.
    """
    first = runs[0]
    for run in runs[1:]:
        _refuse_extra(first, run, set(first.sets), set(run.sets), "set")
        for name, part in first.sets.items():
            ours, theirs = part.frame_keys, run.sets[name].frame_keys
            _refuse_extra(first, run, set(ours), set(theirs), f"frame of {name}")
            changed = sorted(frame for frame in ours if ours[frame] != theirs[frame])
            if changed:
                raise ConfigError(
                    f"compared runs must have the same labels, {changed[0]} of {name} has {ours[changed[0]]} valid and "
                    f"anomalous pixels in {first.name}, and {theirs[changed[0]]} in {run.name}"
                )


def _refuse_extra(first: Run, run: Run, ours: set[str], theirs: set[str], what: str) -> None:
    for owner, extra in ((first, ours - theirs), (run, theirs - ours)):
        if extra:
            shown = ", ".join(sorted(extra)[:_LISTED]) + (", …" if len(extra) > _LISTED else "")
            raise ConfigError(f"compared runs must be over the same frames, only {owner.name} has the {what} {shown}")


def differences(first: Run, other: Run, scores: Sequence[tuple[str, str]]) -> list[Difference]:
    """Compare every set and metric of two runs over the same frames.

    Args:
        first: what is compared with.
        other: what is compared.
        scores: pairs of a score of the first run and one of the other.
    """
    found = []
    for name, ours in first.sets.items():
        theirs = other.sets[name]
        if not (ours.is_labelled and theirs.is_labelled):
            found += _of_masks(ours, theirs) if ours.frame_ids else []
            continue
        for pair in scores:
            if pair[0] in ours.scores and pair[1] in theirs.scores:
                found += _of_set(ours, theirs, pair)
    return found


def _of_masks(ours: RunSet, theirs: RunSet) -> list[Difference]:
    """Compare sets without labels by the mean fraction of the image in the mask, and of the frames that have one."""
    columns = [part.frame_values(None, "mask_fraction") for part in (ours, theirs)]
    masks = [np.array([column[frame] for frame in ours.frame_ids]) for column in columns]
    weights = resamples(len(ours.frame_ids)) / len(ours.frame_ids)
    found = []
    for metric, (before, after) in (("mask_fraction", masks), ("masked_frames", [1.0 * (mask > 0) for mask in masks])):
        means = float(before.mean()), float(after.mean())
        found.append(Difference(ours.name, "mask", metric, *means, interval(weights @ (after - before))))
    return found


def common_scores(first: Run, other: Run) -> list[tuple[str, str]]:
    """Pair the scores that two runs share; runs with a single score each are compared by those.

    Raises:
        ConfigError: if there is nothing to pair.
    """
    ours, theirs = (
        list(dict.fromkeys(score for part in run.sets.values() for score in part.scores)) for run in (first, other)
    )
    shared = [(name, name) for name in ours if name in theirs]
    if not shared and len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    if ours and theirs and not shared:
        raise ConfigError(
            f"compared runs must share a score, {first.name} has {', '.join(ours)} and {other.name} {', '.join(theirs)}"
        )
    return shared


def same_score(pairs: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """Choose the score that puts the frames of all runs side by side: the first that the first run shares with all.

    Args:
        pairs: for each further run what it shares with the first, as :func:`common_scores` gives it.

    Returns:
        its name in each run; empty texts if the runs have no scores.

    Raises:
        ConfigError: if no score of the first run is shared by all.
    """
    if not any(pairs):
        return [""] * (len(pairs) + 1)
    shared = [name for name, _ in pairs[0] if all(name in dict(of_run) for of_run in pairs)]
    if not shared:
        raise ConfigError("compared runs must all share a score with the first: name fewer runs")
    return [shared[0], *(dict(of_run)[shared[0]] for of_run in pairs)]


def _of_set(ours: RunSet, theirs: RunSet, pair: tuple[str, str]) -> list[Difference]:
    drawn = None
    if ours.has_labelled_frames:
        weights = resamples(len(ours.frame_counts(pair[0])))  # the same frames are drawn for both
        drawn = ours.resampled(pair[0], weights), theirs.resampled(pair[1], weights)
    title = pair[0] if pair[0] == pair[1] else " → ".join(pair)
    found = []
    for metric in METRICS:
        ends = Interval(math.nan, math.nan) if drawn is None else interval(drawn[1][metric] - drawn[0][metric])
        values = ours.value(pair[0], metric), theirs.value(pair[1], metric)
        found.append(Difference(ours.name, title, metric, *values, ends))
    return found


def changed_frames(runs: Sequence[Run], scores: Sequence[str]) -> tuple[str, list[FrameChange]]:
    """List the frames of runs over the same frames, the most changed first.

    Args:
        runs: at least two.
        scores: the score of each run.

    Returns:
        the name of the figure, AuPRC of a frame if the runs have labels, else the fraction in the mask; and the frames.
    """
    labelled = all(part.is_labelled for run in runs for part in run.sets.values())
    figure = "auprc" if labelled else "mask_fraction"
    changes = []
    for name in runs[0].sets:
        columns = [
            run.sets[name].frame_values(score if labelled else None, figure)
            for run, score in zip(runs, scores, strict=True)
        ]
        for frame_id in runs[0].sets[name].frame_ids:
            values = tuple(column.get(frame_id, math.nan) for column in columns)
            changes.append(FrameChange(name, frame_id, values))
    return figure, sorted(changes, key=lambda item: (-abs(item.change), item.set_name, item.frame_id))
