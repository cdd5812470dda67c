"""Collect a pack: ask what exists, part by part, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eomt_ext_core.about.checks import all_checks
from eomt_ext_core.about.file_facts import facts_of
from eomt_ext_core.comparison.runs import Run
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.datasets import Dataset
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.evidence import limits
from eomt_ext_core.evidence.data_part import data_part, hashed
from eomt_ext_core.evidence.drift_part import drift_part
from eomt_ext_core.evidence.evaluation_checks import check_frames, check_model
from eomt_ext_core.evidence.evaluation_part import Evaluation, evaluation_part, no_evaluation
from eomt_ext_core.evidence.hashes import HashedFile
from eomt_ext_core.evidence.model_part import (
    calibration_part,
    model_part,
    provenance_part,
    self_test_part,
    weight_files,
)
from eomt_ext_core.evidence.pack import Missing, Pack, Part, facts_from, table


@dataclass(frozen=True)
class Subject:
    """What a pack is about.

    ``source``: of the model, as it was named; ``checkpoint``: its file; ``head``: a separate file with its head.
    ``engine``: how it is run now; ``scores``: names, the first is that of ``engine``. ``datasets``: evaluated;
    ``calibration``: calibrated on. ``folders``: of both, as they were named. ``normality``: a file of
    ``eomt-ext learn-normal``.
    """

    source: str
    checkpoint: Path
    engine: EngineConfig
    scores: tuple[str, ...]
    head: Path | None = None
    datasets: tuple[Dataset, ...] = ()
    calibration: tuple[Dataset, ...] = ()
    folders: tuple[Path, ...] = ()
    normality: Path | None = None


@dataclass(frozen=True)
class Model:
    """The model of a subject, loaded and tested.

    ``facts``: of its file; ``files``: it was loaded from, and the normality; ``self_test``: with every score.
    """

    engine: AnomalyEngine
    facts: Mapping[str, Any]
    files: tuple[HashedFile, ...]
    self_test: Part


def load(subject: Subject) -> Model:
    """Load the model of a subject, hash its files, and ask it for its known answer with every score.

    Raises:
        CheckpointError, ConfigError, InferenceError: as :meth:`AnomalyEngine.load`; if a file cannot be read.
    """
    engine = AnomalyEngine.load(subject.checkpoint, subject.engine, subject.head, normality=subject.normality)
    facts = facts_of(str(subject.checkpoint), None if subject.head is None else str(subject.head))
    files = weight_files(subject.checkpoint, subject.head)
    if subject.normality is not None:
        files.append(HashedFile.of(subject.normality))
    return Model(engine, facts, tuple(files), self_test_part(engine, subject.scores))


def check_run(run: Run, subject: Subject, model: Model) -> None:
    """Refuse a result of ``eomt-ext evaluate`` that is of another model or of other data.

    Raises:
        ConfigError: naming what differs.
    """
    told = model.engine.describe()
    check_model(run, {name: value for name, value in told.items() if name.endswith("_sha256")})
    if subject.datasets:
        check_frames(run, subject.datasets)


def collect(
    subject: Subject, model: Model, evaluation: Evaluation | None, record: Mapping[str, Any]
) -> tuple[Pack, list[HashedFile]]:
    """Collect a pack.

    Args:
        subject: what it is about.
        model: of :func:`load`.
        evaluation: a checked result, or none.
        record: of this process.

    Returns:
        the pack, and the files outside of it that it names.
    """
    facts = model.facts
    used = [(dataset, "evaluation") for dataset in subject.datasets]
    sets = [
        hashed(*each, subject.folders)
        for each in [*used, *((dataset, "calibration") for dataset in subject.calibration)]
    ]
    measured = [] if evaluation is None else [score for part in evaluation.run.sets.values() for score in part.scores]
    scores = tuple(dict.fromkeys([*subject.scores, *measured]))
    is_calibrated = bool(facts.get("calibration") or facts.get("baselines"))
    parts = {
        "model": model_part(facts, model.files),
        "provenance": provenance_part(facts),
        "data": data_part(sets, ("evaluation", "calibration") if is_calibrated else ("evaluation",)),
        "self_test": model.self_test,
        "accuracy": no_evaluation()
        if evaluation is None
        else evaluation_part(evaluation, has_data=bool(subject.datasets)),
        "calibration": calibration_part(facts, scores, subject.source, subject.head),
        "drift": drift_part(model.engine, subject.normality, subject.datasets),
        "limits": _limits_part(),
        "environment": _environment_part(record),
    }
    return Pack(parts, record), [*model.files, *(file for part in sets for file in part.files)]


def _limits_part() -> Part:
    claims = [map(limits.plain, claim) for claim in limits.CLAIMS]
    reported, provided = "What the node reports by itself", "What the user provides"
    source = "docs/safety.md of this package"
    return Part(
        "Known limits",
        "What can the outputs not be taken for, what is noticed in operation, and what is left to the user?",
        tables=(
            *table("Claims", ("the node says", "it means", "it does not mean"), claims, source),
            *table(reported, ("it reports",), ([limits.plain(text)] for text in limits.REPORTED), source),
            *table(provided, ("to provide",), ([limits.plain(text)] for text in limits.TO_PROVIDE), source),
        ),
    )


def _environment_part(record: Mapping[str, Any]) -> Part:
    package = record["package"]
    git = package["git"] or {}
    values = {
        **{name: record[name] for name in ("command", "date", "python", "torch", "timm", "machine")},
        "package": package["version"],
        "commit": git.get("commit"),
        "changed since the commit": git.get("changed"),
    }
    missing = (
        []
        if git
        else [
            Missing(
                "the commit of the package is not known, as it is no clone of its repository",
                "keep the file that it was installed from",
            )
        ]
    )
    rows = [(check.name, check.level, check.found, check.way_out) for check in all_checks()]
    return Part(
        "Environment",
        "With which software, on which machine was this pack made?",
        facts_from("this process", {name: value for name, value in values.items() if value is not None}),
        table("What this machine has", ("what", "level", "found", "way out"), rows, "eomt-ext doctor"),
        tuple(missing),
    )
