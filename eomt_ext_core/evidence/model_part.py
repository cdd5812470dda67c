"""What was examined, where its weights come from, what its calibration promises, and whether it answers as made."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eomt_ext_core.config import SCORES
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.self_test import check_known_answer
from eomt_ext_core.evidence.hashes import HashedFile
from eomt_ext_core.evidence.pack import Fact, Missing, Part, facts_from, table
from eomt_ext_core.files import printable
from eomt_ext_core.model.checkpoint import read_checkpoint
from eomt_ext_core.scoring.probe import GRID_HW, Probe

_IDENTITY = ("kind", "architecture", "window_hw", "patch", "precision", "made_from", "head", "parameters", "classes")
_EXPORTS = (".onnx", ".pt2")
_NO_ANSWER = "none, "


def weight_files(checkpoint: Path, head: Path | None) -> list[HashedFile]:
    """Hash the files that a model is loaded from: weights, the shards of an index, settings that are read beside them.

    Raises:
        CheckpointError, ConfigError: if one cannot be read.
    """
    if checkpoint.suffix in _EXPORTS:
        return [HashedFile.of(checkpoint)]
    return [HashedFile.of(path) for path in read_checkpoint(checkpoint, head=head, download=False).files]


def model_part(facts: Mapping[str, Any], files: Sequence[HashedFile]) -> Part:
    """Say what was examined.

    Args:
        facts: of :func:`~eomt_ext_core.about.file_facts.facts_of`.
        files: of :func:`weight_files`.
    """
    known = {name: facts[name] for name in _IDENTITY if facts.get(name) is not None}
    names = facts.get("classes")
    missing = (
        []
        if isinstance(names, Mapping)
        else [Missing("the names of the semantic classes are not stored", "eomt-ext convert --class-names FILE")]
    )
    rows = [(printable(file.path), file.sha256, file.num_bytes) for file in files]
    return Part(
        "The model",
        "What exactly was examined?",
        facts_from(_read_by_info(facts), known),
        table("Files", ("file", "SHA-256", "bytes"), rows, "the files, read when this pack was made"),
        tuple(missing),
    )


def provenance_part(facts: Mapping[str, Any]) -> Part:
    """Say where the weights come from: what the file states, and the records of the commands that made it."""
    stated, source = facts.get("provenance") or {}, _read_by_info(facts)
    earlier = facts.get("earlier_records")
    records = [item for item in (facts.get("record"), *(earlier if isinstance(earlier, list) else ())) if item]
    missing = []
    if not stated:
        missing.append(
            Missing(
                "the file does not say what its weights were trained on",
                "train with eomt-ext-train, which stores it, or keep its maker's statement",
            )
        )
    if not records:
        missing.append(
            Missing(
                "no record of the commands that made the file is stored in it",
                "eomt-ext convert, eomt-ext calibrate and eomt-ext-train store one",
            )
        )
    missing.append(
        Missing(
            "the file does not list the images that its weights were trained on: that none of the data below is among "
            "them is not shown",
            "compare the hashes of this pack with those of the training images",
        )
    )
    columns = ("command", "date", "version", "commit", "changed", "SHA-256 of the list of data")
    return Part(
        "Where the weights come from",
        "Who made the weights, from what, and can it be traced?",
        facts_from(f"{source}; as its maker states, not checked", stated),
        table("Commands that made the file, newest first", columns, map(_record_row, records), source),
        tuple(missing),
    )


def self_test_part(engine: AnomalyEngine, scores: Sequence[str]) -> Part:
    """Ask the model for its known answer, with every score that has one; a wrong one is an :class:`InferenceError`."""
    outcomes = {
        score: check_known_answer(engine.scorer, score, partial(engine.averaged_score, name=score)) for score in scores
    }
    source = "the known answer in the file, compared with what this machine computes"
    passed = {score: outcome for score, outcome in outcomes.items() if not outcome.startswith(_NO_ANSWER)}
    missing = tuple(
        Missing(
            f"score {score} has no known answer to compare with",
            "eomt-ext convert adds one" if score in SCORES else "test the score head, which has the same features",
        )
        for score in outcomes
        if score not in passed
    )
    facts = facts_from(source, {f"score {score}": outcome for score, outcome in passed.items()})
    probe = Probe.of(engine.scorer.info)
    if passed and probe is not None:
        facts["what is compared"] = Fact(
            f"averages over {math.prod(GRID_HW)} cells of a drawing of {_size(probe.image_rgb.shape)}; "
            "the allowed difference depends on the precision, and is a fraction of the scores' own spread",
            source,
        )
    told = {f"engine: {name}": value for name, value in engine.describe().items() if name != "self_test"}
    return Part(
        "Self-test",
        "Does the model compute on this machine what it computed where it was made?",
        {**facts, **facts_from("the engine of this run", told)},
        missing=missing,
    )


def calibration_part(facts: Mapping[str, Any], scores: Sequence[str], given: str, head: Path | None = None) -> Part:
    """Say what the stored calibrations promise, and for which of the scores there is none.

    Args:
        facts: of :func:`~eomt_ext_core.about.file_facts.facts_of`.
        scores: their names.
        given: the checkpoint as the user named it.
        head: a separate file with its anomaly head.
    """
    source = _read_by_info(facts)
    calibrate = f"eomt-ext calibrate {shlex.quote(printable(given))}"
    if head is not None:
        calibrate += f" --head {shlex.quote(printable(head))}"
    of_head: Mapping[str, Any] | None = facts.get("calibration")
    stored = dict(facts.get("baselines") or {})
    if of_head is not None:
        stored = {"head": {"threshold": of_head["threshold"], "guarantee": facts["guarantee"]}, **stored}
    missing = [
        Missing(
            f"no calibration of score {score} is stored in this file: its probabilities are not to be taken literally, "
            "and its threshold promises nothing of what is found",
            f"{calibrate} --scores {score if score in SCORES else 'head'} --data FOLDER --output FILE",
        )
        for score in scores
        if score not in stored
    ]
    if of_head is not None and "check" not in of_head:
        missing.append(
            Missing(
                "the calibration was not measured on frames that it was not fitted on",
                f"{calibrate} --data FOLDER --check OTHER --output FILE",
            )
        )
    rows = [(score, each["threshold"], each["guarantee"]) for score, each in stored.items()]
    threshold = facts.get("threshold")
    return Part(
        "Calibration and its guarantee",
        "What do probability and threshold promise, on what condition?",
        facts_from(
            source,
            {
                **({} if threshold is None else {"threshold of the mask": threshold}),
                **{f"head: {name}": value for name, value in (of_head or {}).items()},
            },
        ),
        table("Thresholds", ("score", "threshold", "on frames like those that it was fitted on"), rows, source),
        tuple(missing),
    )


def _read_by_info(facts: Mapping[str, Any]) -> str:
    return f"{_name(facts)}, SHA-256 {facts['sha256'][:16]}…, as eomt-ext info reads it"


def _name(facts: Mapping[str, Any]) -> str:
    return Path(facts["file"]).name


def _record_row(record: Any) -> tuple[Any, ...]:
    record = record if isinstance(record, Mapping) else {}
    package = record.get("package")
    package = package if isinstance(package, Mapping) else {}
    git = package.get("git")
    git = git if isinstance(git, Mapping) else {}
    return (
        record.get("command"),
        record.get("date"),
        package.get("version"),
        git.get("commit"),
        git.get("changed"),
        record.get("data_sha256"),
    )


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[0]}"
