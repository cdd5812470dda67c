"""The file of a drive's normality: a few tensors as safetensors, and JSON; from strangers until it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.files import expanded, printable, save_tensors
from eomt_ext_core.model.metadata import check_origin, read_json, write_json
from eomt_ext_core.model.weight_files import read_tensors
from eomt_ext_core.normality.drift import DriftReference
from eomt_ext_core.normality.normality import Normality, Reading
from eomt_ext_core.normality.patch_distance import PatchDistance

MOST_BYTES = 10_000_000
_METADATA_KEY = "eomt_ext_normality"
_VERSION = 1
_SCORES = {"normality", "fused"}


def save_normality(normality: Normality, path: str | Path) -> None:
    """Write a normality, its tensors with 16 bits: calibrate what :func:`rounded` gives.

    Raises:
        CheckpointError: if ``path`` does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"normality is saved as .safetensors, got {path.name!r}")
    metadata = {
        "version": _VERSION,
        "readings": {name: vars(reading) for name, reading in normality.readings.items()},
        "origin": dict(normality.origin),
        "drift": None if normality.drift is None else normality.drift.to_json(),
        "about": dict(normality.about),
    }
    distance = normality.distance
    tensors = {"whitening": distance.whitening.half(), "prototypes": distance.prototypes}
    save_tensors(path, tensors, {_METADATA_KEY: write_json(metadata)})


def rounded(distance: PatchDistance) -> PatchDistance:
    """Give a distance as it is after it was saved and loaded."""
    return PatchDistance(distance.whitening.half().float(), distance.prototypes)


def load_normality(path: str | Path, feature_dim: int, origin: Mapping[str, str]) -> Normality:
    """Read a normality that ``eomt-ext learn-normal`` wrote, for a model.

    Args:
        path: of the file.
        feature_dim: channels of the network's features.
        origin: of the model, its ``checkpoint_sha256`` and ``head_sha256``.

    Raises:
        CheckpointError: naming the file, if it is missing, damaged, foreign, too large, or of another checkpoint.
    """
    normality = read_normality(path)
    for name in ("checkpoint_sha256", "head_sha256"):
        if normality.origin.get(name) != origin.get(name):
            raise CheckpointError(
                f"{printable(path)}: it was learnt with another model, whose {name} is {normality.origin.get(name)}; "
                f"this one's is {origin.get(name)}: learn it anew with `eomt-ext learn-normal`"
            )
    channels = normality.distance.whitening.shape[0]
    if channels != feature_dim:
        raise CheckpointError(f"{printable(path)}: whitening must be {feature_dim} × R, got {channels} × R")
    return normality


def read_normality(path: str | Path) -> Normality:
    """Read a normality of whatever model.

    Raises:
        CheckpointError: naming the file, if it is missing, damaged, foreign or too large.
    """
    path = expanded(path)
    try:
        if not path.is_file():
            raise CheckpointError("no such file: make it with `eomt-ext learn-normal`")
        if path.suffix != ".safetensors" or path.stat().st_size > MOST_BYTES:
            raise CheckpointError(f"it must be a .safetensors file of at most {MOST_BYTES} bytes")
        tensors, texts = read_tensors(path)
        if _METADATA_KEY not in texts:
            raise CheckpointError("it holds no normality: make one with `eomt-ext learn-normal`")
        return _checked(tensors, read_json(texts[_METADATA_KEY]))
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from error


def is_normality(texts: Mapping[str, str]) -> bool:
    """Whether the metadata of a safetensors file are those of a normality."""
    return _METADATA_KEY in texts


def _checked(tensors: Mapping[str, Tensor], stored: Any) -> Normality:
    if not isinstance(stored, dict) or stored.get("version") != _VERSION:
        raise CheckpointError(f"its metadata must be of version {_VERSION}: a newer package may have written it")
    readings, about = stored.get("readings"), stored.get("about")
    if not isinstance(readings, dict) or not set(readings) <= _SCORES or not isinstance(about, dict):
        raise CheckpointError("its metadata must hold 'about', and 'readings' of normality or fused, or of none")
    drift = stored.get("drift")
    return Normality(
        _distance_of(tensors),
        {name: _reading_of(values) for name, values in readings.items()},
        check_origin(stored.get("origin")),
        about,
        None if drift is None else DriftReference.of_json(drift),
    )


def _reading_of(values: Any) -> Reading:
    if not isinstance(values, dict) or set(values) != {"head", "distance", "shift"}:
        raise CheckpointError(f"a reading must hold head, distance and shift, got {values!r}")
    return Reading(**values)


def _distance_of(tensors: Mapping[str, Tensor]) -> PatchDistance:
    if set(tensors) != {"whitening", "prototypes"}:
        raise CheckpointError(f"it must hold whitening and prototypes, got {', '.join(sorted(tensors)) or 'nothing'}")
    whitening, prototypes = tensors["whitening"], tensors["prototypes"]
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or not tensor.numel() or not tensor.is_floating_point() or not tensor.isfinite().all():
            raise CheckpointError(f"{name} must be a table of finite numbers, got {tuple(tensor.shape)} {tensor.dtype}")
    if whitening.shape[1] != prototypes.shape[1]:
        raise CheckpointError(
            f"whitening must be C × R and prototypes K × R, got {tuple(whitening.shape)} and {tuple(prototypes.shape)}"
        )
    return PatchDistance(whitening.to(torch.float32, copy=True), prototypes.to(torch.float32, copy=True))
