"""Whether a result of ``eomt-ext evaluate`` is of a model and of data: it may come from a stranger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eomt_ext_core.comparison.runs import Run
from eomt_ext_core.datasets import Dataset, Sample
from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL
from eomt_ext_core.errors import ConfigError, DatasetError, ImageError
from eomt_ext_core.files import printable

_OPTIONS = {"checkpoint_sha256": "CHECKPOINT", "head_sha256": "--head", "normality_sha256": "--normality"}
_FIGURES = ("size_hw", "num_valid", "num_anomalous")


def check_model(run: Run, model: Mapping[str, str]) -> None:
    """Check that a result is of a model.

    Args:
        run: the result.
        model: ``checkpoint_sha256``, and ``head_sha256`` and ``normality_sha256`` if there are such files.

    Raises:
        ConfigError: if the result names no model, or another one.
    """
    engines = run.record.get("engines")
    if not isinstance(engines, list) or not engines or not all(isinstance(engine, dict) for engine in engines):
        raise ConfigError(f"{run.name} must name the model that was evaluated: run `eomt-ext evaluate` anew")
    for engine in engines:
        for name, option in _OPTIONS.items():
            found, wanted = engine.get(name), model.get(name)
            is_unused = name == "normality_sha256" and found is None
            if found != wanted and not is_unused:
                raise ConfigError(
                    f"{run.name} must be of the same model, its {name} is {found!r:.80}, that of {option} {wanted}: "
                    "evaluate this model, or name the files that were evaluated"
                )


def check_frames(run: Run, datasets: Sequence[Dataset]) -> None:
    """Check that a result is of data: the same sets, frames, sizes and counts of labels.

    Raises:
        ConfigError: naming what differs.
    """
    by_name = {printable(dataset.name): dataset for dataset in datasets}
    if set(by_name) != set(run.sets):
        given, found = (", ".join(map(printable, sorted(names))) for names in (by_name, run.sets))
        raise ConfigError(f"{run.name} must be of the sets of --data, {given}; it is of {found}")
    for name, part in run.sets.items():
        dataset = by_name[name]
        samples = {printable(sample.frame_id): sample for sample in dataset.samples}
        labelled = {frame_id for frame_id, sample in samples.items() if sample.label_path is not None}
        left_out = sorted(labelled - {*part.frame_ids, *part.stored.get("skipped", {})})
        if left_out:
            raise ConfigError(
                f"{run.name} must be of all data, it has {len(left_out)} frames of {name} not, such as {left_out[0]}: "
                "evaluate all of them, or give other --data"
            )
        for row in part.stored["frames"]:
            frame_id, stored = row["frame_id"], [row.get(figure) for figure in _FIGURES]
            here = _figures(dataset, samples[frame_id]) if frame_id in samples else []
            if here != stored:
                raise ConfigError(
                    f"{run.name} must be of the data, size, valid and anomalous pixels of frame {printable(frame_id)} "
                    f"of {name} are {stored!r:.80}, in --data {here or 'it is missing'}"
                )


def _figures(dataset: Dataset, sample: Sample) -> list[Any]:
    """What a result stores of a frame; a text if it cannot be read."""
    try:
        image, labels = dataset.read(sample)
    except (ImageError, DatasetError) as error:
        return [str(error)]
    normal, anomalous = (0 if labels is None else int(np.count_nonzero(labels == kind)) for kind in (NORMAL, ANOMALOUS))
    return [[*image.shape[:2]], normal + anomalous, anomalous]
