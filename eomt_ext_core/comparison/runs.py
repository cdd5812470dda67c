"""A run as its ``metrics.json`` tells of it: values from a file, checked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eomt_ext_core.about.file_facts import read_metrics
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.files import printable
from eomt_ext_core.intervals.bootstrap import METRICS, Interval, interval, metrics_of, resamples
from eomt_ext_core.intervals.frame_counts import FloatArray, FrameCounts, unpack_edges

_WHERE = {
    "auprc": ("pixel", "auprc"),
    "fpr95": ("pixel", "fpr95"),
    "mean_siou": ("segment", "mean_siou"),
    "mean_ppv": ("segment", "mean_ppv"),
    "mean_f1": ("segment", "mean_f1"),
}


@dataclass(frozen=True)
class RunSet:
    """One set of a run.

    Attributes:
        name: of the set.
        stored: the values of the file.
        frame_ids: of the evaluated frames, sorted.
        file: that it was read from, for messages.
    """

    name: str
    stored: Mapping[str, Any]
    frame_ids: tuple[str, ...]
    file: str

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores, in the order of the run."""
        return tuple(self.stored["scores"])

    @property
    def frame_keys(self) -> dict[str, tuple[Any, ...]]:
        """What makes a frame the same in two runs, by id: its valid and anomalous pixels."""
        return {frame["frame_id"]: (frame["num_valid"], frame["num_anomalous"]) for frame in self.stored["frames"]}

    @property
    def is_labelled(self) -> bool:
        """Whether there are metrics to compare."""
        return bool(self.stored["scores"])

    def value(self, score: str, metric: str) -> float:
        """A metric of the whole set, of a name in ``METRICS``; NaN if it is undefined."""
        group, name = _WHERE[metric]
        part = self.stored["scores"][score].get(group) or {}
        return _number(part.get(name))

    def frame_values(self, score: str | None, name: str) -> dict[str, float]:
        """A figure of each frame by id: of a score, such as ``auprc``, or without one of the frame."""
        rows = self.stored["frames"]
        if score is None:
            return {row["frame_id"]: _number(row.get(name)) for row in rows}
        return {row["frame_id"]: _number(row["scores"][score].get(name)) for row in rows if score in row["scores"]}

    def resampled(self, score: str, weights: FloatArray) -> dict[str, FloatArray]:
        """The metrics of a score for each way of weighting the labelled frames, shifted to the exact ones of the set.

        The shift, mostly below 0.001, makes up for the pixels between two edges, which count as one tie.

        Args:
            score: its name.
            weights: (R, F) as of :func:`~eomt_ext_core.intervals.bootstrap.resamples`, frames by sorted id.

        Raises:
            ConfigError: if the run was made before frames were counted.
        """
        frames = self.frame_counts(score)
        once = metrics_of(frames, np.ones((1, len(frames))))
        found = metrics_of(frames, weights)
        return {name: values + (self.value(score, name) - once[name][0]) for name, values in found.items()}

    def estimates(self, score: str) -> dict[str, tuple[float, Interval]]:
        """The metrics of a score by name of ``METRICS``, each with its interval, cut to what a fraction can be.

        Raises:
            ConfigError: if the run was made before frames were counted.
        """
        drawn = self.resampled(score, resamples(len(self.frame_counts(score))))
        ends = {metric: interval(drawn[metric]) for metric in METRICS}
        return {
            metric: (self.value(score, metric), Interval(*np.clip((found.low, found.high), 0.0, 1.0).tolist()))
            for metric, found in ends.items()
        }

    @property
    def num_counted(self) -> int:
        """Number of labelled frames, whose counts are stored."""
        return len(_mapping(self.stored.get("counts")))

    @property
    def has_labelled_frames(self) -> bool:
        """Whether a frame has labels."""
        return any(frame["scores"] for frame in self.stored["frames"])

    def frame_counts(self, score: str) -> list[FrameCounts]:
        """Read the counts of the labelled frames, by sorted id.

        Raises:
            ConfigError: naming the file, if the run was made before frames were counted, or the counts are damaged.
        """
        stored, edges = self.stored.get("counts"), self.stored.get("edges")
        if not isinstance(stored, dict) or not isinstance(edges, dict) or not stored or score not in edges:
            raise ConfigError(
                f"{self.file}: the metrics of {self.name} hold no counts of frames for {score}: run evaluate again "
                "with this package"
            )
        try:
            size = unpack_edges(edges[score]).size
            return [FrameCounts.of_json(_mapping(stored[frame_id]).get(score), size) for frame_id in sorted(stored)]
        except DatasetError as error:
            raise ConfigError(f"{self.file} is damaged, {self.name}: {error}") from error


@dataclass(frozen=True)
class Run:
    """A ``metrics.json``, or the one of a folder of results."""

    name: str
    sets: Mapping[str, RunSet]
    about: Mapping[str, Any]
    record: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Read it.

        Raises:
            ConfigError: naming the file, if it is missing, damaged or something else.
        """
        file = path / "metrics.json" if path.is_dir() else path
        found = read_metrics(file)
        try:
            sets = [_set_of(part, printable(file)) for part in found["sets"]]
            _check_different((part.name for part in sets), "sets")
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"{printable(file)} is damaged: {type(error).__name__} {error}") from error
        except DatasetError as error:
            raise ConfigError(f"{printable(file)} is damaged: {error}") from error
        by_name = {part.name: part for part in sets}
        return cls(printable(path), by_name, _mapping(found.get("about")), _mapping(found.get("record")))


def _set_of(part: Mapping[str, Any], file: str) -> RunSet:
    if not isinstance(part["name"], str):
        raise DatasetError("the name of a set must be a text")
    for frame in part["frames"]:
        if not isinstance(frame["frame_id"], str) or not _holds(frame["scores"], dict):
            raise DatasetError("a frame must have an id and scores")
        _ = frame["num_valid"], frame["num_anomalous"]
    for score in part["scores"].values():
        _ = score["pixel"].items(), (score.get("segment") or {}).items()
    frame_ids = tuple(sorted(frame["frame_id"] for frame in part["frames"]))
    _check_different(frame_ids, "frames")
    if not set(_mapping(part.get("counts"))) <= set(frame_ids):
        raise DatasetError("its counts must be those of its frames")
    if not _holds(part.get("skipped", {}), str):
        raise DatasetError("its skipped frames must have a reason each")
    return RunSet(part["name"], part, frame_ids, file)


def _holds(value: Any, kind: type) -> bool:
    """Whether it is a mapping of values of a kind."""
    return isinstance(value, dict) and all(isinstance(item, kind) for item in value.values())


def _check_different(names: Iterable[str], what: str) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise DatasetError(f"its {what} must have different names, two are {twice[0]!r:.80}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
