"""EoMT on DINOv3: official names, those of Transformers, and those of the backbone alone.

The official code takes its backbone from Transformers (``DINOv3ViTModel``) and moves its parts;
``EomtDinov3ForUniversalSegmentation`` differs from both in prefixes only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.layouts.dinov2 import HEADS
from eomt_ext_core.model.layouts.renaming import Join, Renaming

BACKBONE = "encoder.backbone."
_EMBEDDINGS = r"(?:embeddings|encoder\.backbone\.patch_embed)"
_BLOCK = r"(?:layers|(?:model\.)?layer|encoder\.backbone\.blocks)\.(\d+)"
_TO_BLOCK = r"encoder.backbone.blocks.\1"
_UNUSED = re.compile(r".*\brope_embeddings\..*|.*\bmask_token")  # computed; of the backbone's own training
_STD = "encoder.pixel_std"
_MEAN = "encoder.pixel_mean"


def is_dinov3(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a DINOv3 layout, which differs from DINOv2 in the patch embedding."""
    return any(re.fullmatch(rf"{_EMBEDDINGS}\.patch_embeddings\.weight", key) for key in state)


def from_dinov3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a DINOv3 layout to the names of timm's ``Eva`` below ``encoder.backbone``.

    Raises:
        CheckpointError: if query, key and value differ in shape.
    """
    gated = any(".mlp.gate_proj." in key for key in state)
    renaming = Renaming(
        names=(
            (rf"{_EMBEDDINGS}\.cls_token", "encoder.backbone.cls_token"),
            (rf"{_EMBEDDINGS}\.register_tokens", "encoder.backbone.reg_token"),
            (rf"{_EMBEDDINGS}\.patch_embeddings\.(\w+)", r"encoder.backbone.patch_embed.proj.\1"),
            (rf"{_BLOCK}\.norm([12])\.(\w+)", rf"{_TO_BLOCK}.norm\2.\3"),
            (rf"{_BLOCK}\.attention\.([qkv])_proj\.bias", rf"{_TO_BLOCK}.attn.\2_bias"),
            (rf"{_BLOCK}\.attention\.o_proj\.(\w+)", rf"{_TO_BLOCK}.attn.proj.\2"),
            (rf"{_BLOCK}\.layer_scale([12])\.lambda1", rf"{_TO_BLOCK}.gamma_\2"),
            (rf"{_BLOCK}\.mlp\.gate_proj\.(\w+)", rf"{_TO_BLOCK}.mlp.fc1_g.\2"),
            (rf"{_BLOCK}\.mlp\.up_proj\.(\w+)", rf"{_TO_BLOCK}.mlp.{'fc1_x' if gated else 'fc1'}.\2"),
            (rf"{_BLOCK}\.mlp\.down_proj\.(\w+)", rf"{_TO_BLOCK}.mlp.fc2.\2"),
            (r"(?:layernorm|norm)\.(\w+)", r"encoder.backbone.norm.\1"),
            *HEADS,
        ),
        joins=(
            Join(
                rf"{_BLOCK}\.attention\.(?P<part>[qkv])_proj\.weight", ("q", "k", "v"), rf"{_TO_BLOCK}.attn.qkv.weight"
            ),
        ),
    )
    return renaming.apply({key: value for key, value in state.items() if not _UNUSED.fullmatch(key)})


def is_delta(network: Mapping[str, Tensor]) -> bool:
    """Whether a file has differences to DINOv3's weights, in which the constants are zero."""
    deviation = network.get(_STD)
    return deviation is not None and not deviation.any()


def add_base(delta: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the weights of a DINOv3 to the differences that EoMT publishes instead of weights.

    The sum is that of the official code: what does not belong to the backbone starts from zero.

    Args:
        delta: of a network, official names.
        base: the backbone, in one of its layouts.

    Returns:
        the weights of the network, the constants of its normalisation left out.

    Raises:
        CheckpointError: naming what the base lacks, has too much, or has in another shape.
    """
    if not is_delta(delta):
        raise CheckpointError("it holds weights already, not differences to those of DINOv3: leave the base out")
    backbone = from_dinov3(base) if is_dinov3(base) else {BACKBONE + key: value for key, value in base.items()}
    ours = {key for key in delta if key.startswith(BACKBONE)}
    problems = [f"{key} is missing" for key in sorted(ours - backbone.keys())]
    problems += [f"{key} is unexpected" for key in sorted(backbone.keys() - ours)]
    problems += [
        f"{key} must have shape {tuple(delta[key].shape)}, got {tuple(backbone[key].shape)}"
        for key in sorted(ours & backbone.keys())
        if delta[key].shape != backbone[key].shape
    ]
    if problems:
        raise CheckpointError(f"the base does not fit: {'; '.join(problems[:4])}")
    summed = {key: value + backbone[key] if key in ours else value for key, value in delta.items()}
    return {key: value for key, value in summed.items() if key not in (_MEAN, _STD)}


def add_to_probabilities(attn_mask_probs: Tensor | None) -> Tensor | None:
    """Add 1 to the annealing state of masked attention in a delta, as it starts from ones."""
    return None if attn_mask_probs is None else torch.ones_like(attn_mask_probs) + attn_mask_probs
