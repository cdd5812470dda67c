"""Metadata of a Transformers model in the files beside its weights: sizes, class names, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.metadata import MOST_BYTES, read_json

_DINOV3_TYPE = "eomt_dinov3"
_TYPES = ("eomt", _DINOV3_TYPE)
PREPROCESSOR = "preprocessor_config.json"
_NORM_EPS = {"eomt": 1e-6, _DINOV3_TYPE: 1e-5}  # of timm's networks


def read_transformers(path: Path, *, required: bool) -> dict[str, Any]:
    """Read settings in a ``config.json`` that the weights do not determine: ``model`` (of ``ModelConfig``), ``info``.

    Args:
        path: the file.
        required: whether the weights beside it are in the layout of Transformers; if not, the configuration of another
            kind of model is passed over.

    Raises:
        CheckpointError: if it is no such file, or of a model that is not supported.
    """
    try:
        stored = _mapping_in(path)
        kind = stored.get("model_type", "eomt")
        if kind not in _TYPES:
            if required:
                raise CheckpointError(f"model_type must be {' or '.join(_TYPES)}, got {kind!r}")
            return {}
        size = stored.get("image_size", 640)
        crop_hw = (size, size) if isinstance(size, int) else size
        if not isinstance(crop_hw, list | tuple):
            raise CheckpointError(f"image_size must be one number or two, got {size!r}")
    except CheckpointError as error:
        raise CheckpointError(f"{path.name} is not the configuration of a Transformers model: {error}") from error
    _check_fixed(stored, kind, path.name)
    overrides: dict[str, Any] = {"num_heads": stored.get("num_attention_heads", 16)}
    norm_eps = stored.get("layer_norm_eps", 1e-6)
    if norm_eps != _NORM_EPS[kind]:
        overrides["norm_eps"] = norm_eps
    model = {
        "crop_hw": crop_hw,
        "trained_crop_hw": crop_hw,
        "num_blocks": stored.get("num_blocks", 4),
        "backbone_overrides": overrides,
    }
    return {"model": model, "info": _class_names(stored)}


def read_normalisation(folder: Path) -> dict[str, Tensor]:
    """Read mean and deviation of the normalisation of pixels, or nothing if the folder has none.

    Returns:
        ``encoder.pixel_mean`` and ``encoder.pixel_std``, each (1, 3, 1, 1).

    Raises:
        CheckpointError: if ``preprocessor_config.json`` asks for what the network does not do.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        return {}
    stored = _mapping_in(path)
    scale = stored.get("rescale_factor", 1 / 255)
    if not stored.get("do_rescale", True) or not isinstance(scale, int | float) or abs(255 * scale - 1) > 1e-3:
        raise CheckpointError(f"{path.name}: rescale_factor must be 1/255, got {scale!r}")
    if not stored.get("do_normalize", True):
        return _constants((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    if "image_mean" not in stored and "image_std" not in stored:
        return {}
    mean, std = (_three(stored.get(name), name, path.name) for name in ("image_mean", "image_std"))
    if min(std) <= 0:
        raise CheckpointError(f"{path.name}: image_std must be positive, got {list(std)}")
    return _constants(mean, std)


def _constants(mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Tensor]:
    return {
        "encoder.pixel_mean": torch.tensor(mean).view(1, 3, 1, 1),
        "encoder.pixel_std": torch.tensor(std).view(1, 3, 1, 1),
    }


def _mapping_in(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    stored = read_json(content)
    if not isinstance(stored, dict):
        raise CheckpointError(f"{path.name} must be a mapping, got {type(stored).__name__}")
    return stored


def _check_fixed(stored: Mapping[str, Any], kind: str, name: str) -> None:
    """Raise ``CheckpointError`` for settings that the network does not support and the weights do not show."""
    fixed: dict[str, Any] = {"hidden_act": "gelu"}
    if kind == _DINOV3_TYPE:
        # With gated MLPs, Transformers uses the backbone's SiLU in the heads; the official code uses GELU.
        fixed |= {"use_gated_mlp": False, "key_bias": False}
        rope = stored.get("rope_parameters", {"rope_theta": stored.get("rope_theta", 100.0)})
        if not isinstance(rope, Mapping) or rope.get("rope_theta", 100.0) != 100.0:
            raise CheckpointError(f"{name}: rope_theta must be 100, got {rope!r}")
    for field, value in fixed.items():
        if stored.get(field, value) != value:
            raise CheckpointError(f"{name}: {field} must be {value}, got {stored[field]!r}")


def _class_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``class_names`` from ``id2label``, unless these are the default names of Transformers."""
    labels = stored.get("id2label")
    if not isinstance(labels, Mapping) or not labels:
        return {}
    names = [labels.get(str(index)) for index in range(len(labels))]
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        return {}
    return {"class_names": names}


def _three(value: Any, field: str, name: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(number, int | float) for number in value):
        raise CheckpointError(f"{name}: {field} must be three numbers, got {value!r}")
    return tuple(map(float, value))
