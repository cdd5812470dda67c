"""EoMT with the names of lightly-train (``dinov2/vitb14-eomt``, ``dinov3/vitb16-eomt``), and its settings.

An exported model is a mapping with ``train_model``, a state dict, and ``model_init_args``. The backbone has the names
of Meta's own DINOv2 and DINOv3, the rest those of EoMT, but for ``queries``. Inference never masks attention.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.layouts.renaming import Renaming

WEIGHTS, SETTINGS = "train_model", "model_init_args"
_QUERIES = "queries.weight"
_CLASS, _POSITIONS = "backbone.cls_token", "backbone.pos_embed"
_PERIODS = "backbone.rope_embed.periods"
_UNUSED = ("backbone.mask_token", _PERIODS)
_THETA = 100.0
_NORM_EPS = 1e-5  # of the norms that upscale
_USUAL_WIDTHS = (384, 768, 1024, 1536)  # of the DINOv2 ViTs, whose attention heads all have 64 channels
_HEAD_CHANNELS = 64
_BLOCK = r"backbone\.blocks\.(?:\d+\.)?(\d+)"  # blocks may be in chunks, and keep their numbers there
_TO_BLOCK = r"encoder.backbone.blocks.\1"
_COMMON = (
    (r"queries\.weight", "q.weight"),
    (r"backbone\.(?:register|storage)_tokens", "encoder.backbone.reg_token"),
    (rf"{_BLOCK}\.mlp\.w3\.(\w+)", rf"{_TO_BLOCK}.mlp.fc2.\2"),
)
_REST = (
    (rf"{_BLOCK}\.([\w.]+)", rf"{_TO_BLOCK}.\2"),
    (r"backbone\.([\w.]+)", r"encoder.backbone.\1"),
)
_DINOV2 = Renaming((*_COMMON, (rf"{_BLOCK}\.mlp\.w12\.(\w+)", rf"{_TO_BLOCK}.mlp.fc1.\2"), *_REST))
_DINOV3 = Renaming(
    (
        *_COMMON,
        (rf"{_BLOCK}\.ls([12])\.gamma", rf"{_TO_BLOCK}.gamma_\2"),
        (rf"{_BLOCK}\.mlp\.w1\.(\w+)", rf"{_TO_BLOCK}.mlp.fc1_g.\2"),
        (rf"{_BLOCK}\.mlp\.w2\.(\w+)", rf"{_TO_BLOCK}.mlp.fc1_x.\2"),
        *_REST,
    )
)


def is_lightly(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of lightly-train."""
    return _QUERIES in state and any(key.startswith("backbone.") for key in state)


def from_lightly(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert to the names of :class:`~eomt_ext_core.model.eomt.EoMT`.

    The position of the class token is added to that token. Query, key and value of a DINOv3 have one bias, of which a
    mask takes the key's away.

    Raises:
        CheckpointError: if the rotations are not those of DINOv3, a mask does not fit its bias, or two tensors get one
            name.
    """
    kept = {key: value for key, value in state.items() if key not in _UNUSED}
    if (periods := state.get(_PERIODS)) is not None:
        _check_periods(periods)
    token, positions = kept.get(_CLASS), kept.get(_POSITIONS)
    if positions is None:
        return _DINOV3.apply(_with_biases_apart(kept))
    if token is not None and positions.ndim == 3 and positions[:, :1].shape == token.shape:
        kept |= {_CLASS: token + positions[:, :1], _POSITIONS: positions[:, 1:]}
    return _DINOV2.apply(kept)


def _with_biases_apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    apart: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".attn.qkv.bias"):
            mask = state.get(f"{key}_mask", torch.ones_like(value))
            if mask.shape != value.shape or value.ndim != 1 or len(value) % 3:
                raise CheckpointError(f"{key} and its mask must have one length, a multiple of 3, got {value.shape}")
            for name, part in zip("qkv", (value * mask).chunk(3), strict=True):
                own = key.replace("qkv.bias", f"{name}_bias")
                if own in state:
                    raise CheckpointError(f"a tensor must be there once, but {key} and {own} are both biases of {name}")
                if name != "k" or part.any():  # strict loading refuses a bias of the key
                    apart[own] = part
        elif not key.endswith(".attn.qkv.bias_mask"):
            apart[key] = value
    return apart


def _check_periods(periods: Tensor) -> None:
    count = periods.numel()
    expected = _THETA ** (torch.arange(count) / max(count, 1))
    if periods.ndim != 1 or not torch.allclose(periods.float(), expected, rtol=0.02):
        raise CheckpointError(f"{_PERIODS} must be those of DINOv3, {_THETA:g}^(i/{count}), got {periods.tolist()[:4]}")


def settings_text(stored: Mapping[str, Any]) -> str:
    """Give the settings of a file as JSON.

    Raises:
        CheckpointError: if they hold other objects.
    """
    try:
        return json.dumps(stored, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"its {SETTINGS} must be texts and numbers: {error}") from error


def read_settings(state: Mapping[str, Tensor], stored: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what the names of the weights do not tell.

    Args:
        state: the weights.
        stored: the settings; empty for weights alone.

    Returns:
        ``model`` (fields of its configuration) and ``info``; and the constants of the normalisation.

    Raises:
        CheckpointError: if a setting has another form.
    """
    model: dict[str, Any] = {"upscale_eps": _NORM_EPS, "masked_attention": False}
    heads = _num_heads(state)
    if heads:
        model["backbone_overrides"] = {"num_heads": heads}
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"its {SETTINGS} must be a mapping, got {type(stored).__name__}")
    if "num_joint_blocks" in stored:
        model["num_blocks"] = stored["num_joint_blocks"]
    size = stored.get("image_size")
    if isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size):
        model["crop_hw"] = size
    classes = stored.get("classes")
    info = {"class_names": list(classes.values())} if isinstance(classes, Mapping) else {}
    return {"model": model, "info": info}, _normalisation(stored.get("image_normalize"))


def _num_heads(state: Mapping[str, Tensor]) -> int:
    """Number of attention heads: a DINOv3 has a period for every four channels of one. 0 if nothing tells."""
    token, periods = state.get(_CLASS), state.get(_PERIODS)
    if token is None or not token.ndim:
        return 0
    width = token.shape[-1]
    if periods is not None and periods.numel():
        return int(width // (4 * periods.numel()))
    return width // _HEAD_CHANNELS if width in _USUAL_WIDTHS else 0


def _normalisation(stored: Any) -> dict[str, Tensor]:
    if stored is None:
        return {}
    try:
        mean, std = (torch.tensor(stored[name], dtype=torch.float32).view(1, 3, 1, 1) for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"its image_normalize must have mean and std of three channels, got {stored!r}"
        ) from error
    if not (std > 0).all():
        raise CheckpointError(f"its image_normalize must have a positive std, got {stored!r}")
    return {"encoder.pixel_mean": mean, "encoder.pixel_std": std}
