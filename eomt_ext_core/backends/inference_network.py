"""The network in its fastest form: the same function with rearranged weights."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from eomt_ext_core.backends.parts import GeluLinear, InferenceBlock, InferenceEncoder, MixAndNorm, RoundedNorm
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.model.upscale import UpscaleBlock


def inference_network(network: EoMT, device: torch.device, dtype: torch.dtype) -> EoMT:
    """Copy a network for inference, with the same results except for rounding.

    Weights have the type of the computation, so that none is cast in a forward pass. The patch embedding (1/200 of the
    work), the residual stream and the norms that read it stay float32: rounding the pixels alone makes half of the
    error of bfloat16. Layer scales are folded into the linear layers before them. Upscaling uses the channels-last
    memory format.

    Args:
        network: does not change.
        device: of the copy.
        dtype: of the matrix products and convolutions after the patch embedding, and of the output.
    """
    fast = copy.deepcopy(network).to(device, torch.float32).eval().requires_grad_(False)
    backbone = fast.encoder.backbone
    for index, block in enumerate(backbone.blocks):
        has_scales = hasattr(block, "ls1")
        if has_scales:
            _fold_scale(block, "ls1", block.attn.proj)
            _fold_scale(block, "ls2", block.mlp.fc2)
        else:
            _fold_gamma(block, "gamma_1", block.attn.proj)
            _fold_gamma(block, "gamma_2", block.mlp.fc2)
        block.norm1, block.norm2 = RoundedNorm(block.norm1, dtype), RoundedNorm(block.norm2, dtype)
        block.attn.to(dtype)
        block.mlp.to(dtype)
        if type(block.mlp) is Mlp and isinstance(block.mlp.act, nn.GELU):
            mlp: Any = block.mlp
            mlp.fc1, mlp.act = GeluLinear(mlp.fc1), nn.Identity()
        if has_scales:
            backbone.blocks[index] = InferenceBlock(block)
    backbone.norm = RoundedNorm(backbone.norm, dtype)
    fast.encoder = cast(Any, InferenceEncoder(fast.encoder, network.config.grid_hw))
    fast.upscale = nn.Sequential(*(ChannelsLastUpscaleBlock(cast(UpscaleBlock, block)) for block in fast.upscale))
    for part in (fast.upscale, fast.mask_head, fast.class_head):
        part.to(dtype)
    return fast


def _fold_scale(block: Any, name: str, linear: nn.Linear) -> None:
    """Fold a ``timm.layers.LayerScale`` into the layer before it."""
    scale = getattr(block, name)
    if not isinstance(scale, nn.Identity):
        _scale_rows(linear, scale.gamma)
        setattr(block, name, nn.Identity())


def _fold_gamma(block: Any, name: str, linear: nn.Linear) -> None:
    """The same for a ``timm.models.eva.EvaBlock``, whose scales are parameters or none."""
    gamma = getattr(block, name)
    if gamma is not None:
        _scale_rows(linear, gamma)
        setattr(block, name, None)


def _scale_rows(linear: nn.Linear, scale: Tensor) -> None:
    linear.weight.mul_(scale[:, None])
    if linear.bias is not None:
        linear.bias.mul_(scale)


class ChannelsLastUpscaleBlock(nn.Module):
    """:class:`~eomt_ext_core.model.upscale.UpscaleBlock` in the channels-last memory format.

    A transposed convolution with a stride equal to its kernel size is one matrix product, from the channels of a
    position to those of its four successors, and a rearrangement.
    """

    def __init__(self, block: UpscaleBlock) -> None:
        super().__init__()
        weight, bias = block.conv1.weight, block.conv1.bias
        assert bias is not None
        expand = nn.Linear(weight.shape[0], 4 * weight.shape[1], device=weight.device)
        expand.weight = nn.Parameter(weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), requires_grad=False)
        expand.bias = nn.Parameter(bias.repeat(4), requires_grad=False)
        self.expand = GeluLinear(expand)
        self.mix = MixAndNorm(block)

    def forward(self, features: Tensor) -> Tensor:
        """Upscale (B, C, h, w) to (B, C, 2h, 2w), both channels-last."""
        upscaled: Tensor = self.mix(self.expand(features.permute(0, 2, 3, 1)))
        return upscaled.permute(0, 3, 1, 2)
