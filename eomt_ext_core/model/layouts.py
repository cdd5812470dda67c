"""Conversion of published state-dict layouts of EoMT to the official one.

Official (github.com/tue-mps/eomt): keys under ``network.``, with the names of :class:`~eomt_ext_core.model.eomt.EoMT`.
Transformers (``EomtForUniversalSegmentation``): the same weights with other names; query, key and value are separate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError

# Prefixes of wrappers that training tools put around a network, outermost first.
_PREFIXES = ("_orig_mod.", "module.", "model.", "network.", "_orig_mod.")
_IGNORED = ("criterion.",)
_HEAD_PREFIX = "anomaly_head."

_TRANSFORMERS_NAMES: tuple[tuple[str, str], ...] = (
    (r"embeddings\.cls_token", "encoder.backbone.cls_token"),
    (r"embeddings\.register_tokens", "encoder.backbone.reg_token"),
    (r"embeddings\.position_embeddings\.weight", "encoder.backbone.pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"encoder.backbone.patch_embed.proj.\1"),
    (r"layers\.(\d+)\.norm([12])\.(\w+)", r"encoder.backbone.blocks.\1.norm\2.\3"),
    (r"layers\.(\d+)\.attention\.out_proj\.(\w+)", r"encoder.backbone.blocks.\1.attn.proj.\2"),
    (r"layers\.(\d+)\.layer_scale([12])\.lambda1", r"encoder.backbone.blocks.\1.ls\2.gamma"),
    (r"layers\.(\d+)\.mlp\.(fc[12])\.(\w+)", r"encoder.backbone.blocks.\1.mlp.\2.\3"),
    (r"layers\.(\d+)\.mlp\.weights_in\.(\w+)", r"encoder.backbone.blocks.\1.mlp.fc1.\2"),
    (r"layers\.(\d+)\.mlp\.(?:weights_out|down_proj)\.(\w+)", r"encoder.backbone.blocks.\1.mlp.fc2.\2"),
    (r"layernorm\.(\w+)", r"encoder.backbone.norm.\1"),
    (r"query\.weight", "q.weight"),
    (r"class_predictor\.(\w+)", r"class_head.\1"),
    (r"mask_head\.fc1\.(\w+)", r"mask_head.0.\1"),
    (r"mask_head\.fc2\.(\w+)", r"mask_head.2.\1"),
    (r"mask_head\.fc3\.(\w+)", r"mask_head.4.\1"),
    (r"upscale_block\.block\.(\d+)\.(conv[12])\.(\w+)", r"upscale.\1.\2.\3"),
    (r"upscale_block\.block\.(\d+)\.layernorm2d\.(\w+)", r"upscale.\1.norm.\2"),
)

# Parts of one official tensor, in their order along its first dimension.
_TRANSFORMERS_JOINS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (r"layers\.(\d+)\.attention\.(q_proj|k_proj|v_proj)\.(\w+)", ("q_proj", "k_proj", "v_proj"), "attn.qkv"),
    (r"layers\.(\d+)\.mlp\.(gate_proj|up_proj)\.(\w+)", ("gate_proj", "up_proj"), "mlp.fc1"),
)


@dataclass(frozen=True)
class Weights:
    """The tensors of a checkpoint by module.

    Attributes:
        network: of the EoMT, official names without ``network.``; empty in a separate head file.
        head: of the anomaly head, ``feature_proj.*`` and ``mlp.*``; empty if there is none.
        attn_mask_probs: (num_blocks,), the annealing state of masked attention; None if the file has none.
    """

    network: dict[str, Tensor]
    head: dict[str, Tensor]
    attn_mask_probs: Tensor | None


def sort_weights(state: Mapping[str, Tensor]) -> Weights:
    """Convert a state dict to the official layout.

    Unknown keys keep their names; strict loading reports them.

    Raises:
        CheckpointError: if tensors that belong together do not fit together.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _without_prefixes(key)
        plain[key if name in plain else name] = value  # a second network with another prefix is not the model's
    plain = {key: value for key, value in plain.items() if not key.startswith(_IGNORED)}
    probs = plain.pop("attn_mask_probs", None)
    head = {key.removeprefix(_HEAD_PREFIX): plain.pop(key) for key in list(plain) if key.startswith(_HEAD_PREFIX)}
    if not head and plain and all(key.startswith(("mlp.", "feature_proj.")) for key in plain):
        return Weights({}, plain, probs)
    if any(key.startswith(("embeddings.", "layers.")) for key in plain):
        plain = _from_transformers(plain)
    return Weights(plain, head, probs)


def _without_prefixes(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    official: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        for pattern, order, target in _TRANSFORMERS_JOINS:
            if match := re.fullmatch(pattern, key):
                name = f"encoder.backbone.blocks.{match[1]}.{target}.{match[3]}"
                found = parts.setdefault(name, {})
                found[match[2]] = value
                if len(found) == len(order):
                    official[name] = _join([found[part] for part in order], key)
                break
        else:
            official[_official_name(key)] = value
    positions = official.get("encoder.backbone.pos_embed")
    if positions is not None and positions.ndim == 2:
        official["encoder.backbone.pos_embed"] = positions[None]
    return official


def _join(parts: list[Tensor], key: str) -> Tensor:
    if any(part.ndim == 0 or part.shape != parts[0].shape for part in parts):
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise CheckpointError(f"{key} and its neighbours must have one shape, got {shapes}")
    return torch.cat(parts)


def _official_name(key: str) -> str:
    for pattern, replacement in _TRANSFORMERS_NAMES:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    return key
