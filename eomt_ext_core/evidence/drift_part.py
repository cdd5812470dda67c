"""Whether the data are like the drive that the model's normality was learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eomt_ext_core.about.file_facts import facts_of
from eomt_ext_core.datasets import Dataset
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.errors import DatasetError, ImageError, InferenceError
from eomt_ext_core.evidence.pack import Missing, Part, facts_from
from eomt_ext_core.files import message_with_path, printable
from eomt_ext_core.normality.drift import LEAST_REFERENCE, DriftTest
from eomt_ext_core.progress import tracked

_TITLE = "Drift"
_QUESTION = "Are these data like the drive that the thresholds were fitted on, and is a change noticed in operation?"


def drift_part(engine: AnomalyEngine, path: Path | None, datasets: Sequence[Dataset]) -> Part:
    """Say what watches for another drive, and what it says of the data.

    Args:
        engine: with the normality of ``path``, if that is given.
        path: a file of ``eomt-ext learn-normal``, or of ``eomt-ext calibrate --normality``.
        datasets: the data, watched set by set in the order of the ids.
    """
    if path is None:
        missing = Missing(
            "no drive is known that images could be compared with, so that a change of road, camera or season is not "
            "noticed",
            "--normality FILE, of eomt-ext learn-normal or eomt-ext calibrate --normality",
        )
        return Part(_TITLE, _QUESTION, missing=(missing,))
    found = facts_of(str(path))
    source = f"{path.name}, SHA-256 {found['sha256'][:16]}…, as eomt-ext info reads it"
    stated = {name: found[name] for name in ("sha256", "scores", "prototypes", "belongs_to", "watches_drift")}
    facts = facts_from(source, found["provenance"] | stated)
    reference = None if engine.normality is None else engine.normality.drift
    if reference is None:
        missing = Missing(
            f"{printable(path.name)} watches no drift: too few images were held out",
            f"hold out at least {LEAST_REFERENCE} of them",
        )
        return Part(_TITLE, _QUESTION, facts, missing=(missing,))
    alpha = engine.config.drift_alpha
    test = DriftTest(reference, alpha)
    names, left_out = [], []
    for dataset in datasets:
        for sample in tracked(dataset.samples, "drift", len(dataset.samples)):
            try:
                image, _ = dataset.read(sample)
                test.add(float(engine.distances(image)[0].mean()))
            except (ImageError, DatasetError, InferenceError) as error:
                left_out.append(message_with_path(sample.image_path, error))
            else:
                names.append(f"{printable(sample.frame_id)} of {printable(dataset.name)}")
    watched: dict[str, Any] = {
        "images to compare with": len(reference.strangeness),
        "bound on the probability of a false report": alpha,
        "images watched": test.num_images,
        "evidence of another drive": test.evidence,
        "reported from": 2 / alpha,
        "reported as another drive": test.has_drifted,
        "what no report means": "that the evidence does not suffice; not that the data are like the drive",
    }
    if test.since is not None:
        watched["since"] = names[test.since - 1]
    shown = facts_from("the images of --data, compared now, set by set in the order of their ids", watched)
    lacks = [] if datasets else [Missing("no data were given to compare", "--data FOLDER")]
    if left_out:
        lacks.append(
            Missing(
                f"{len(left_out)} images were not compared, such as: {left_out[0]}",
                "make them readable, and the pack anew",
            )
        )
    return Part(_TITLE, _QUESTION, facts | (shown if names else {}), missing=tuple(lacks), left_out=tuple(left_out))
