"""The sum of a residual stream and a branch, its LayerNorm and the rounding of that, in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def add_and_normalise(
    stream,
    branch,
    weight,
    bias,
    summed,
    normalised,
    epsilon,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS: tl.constexpr,
):
    """Process the channels of one token, in float32."""
    place = tl.program_id(0).to(tl.int64) * CHANNELS + tl.arange(0, BLOCK)
    channel = tl.arange(0, BLOCK)
    inside = channel < CHANNELS
    token = tl.load(stream + place, mask=inside, other=0.0)
    if ADDS:
        token += tl.load(branch + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(summed + place, token, mask=inside)
    centred = tl.where(inside, token - tl.sum(token, axis=0) / CHANNELS, 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, axis=0) / CHANNELS + epsilon)
    scale = tl.load(weight + channel, mask=inside, other=0.0)
    shift = tl.load(bias + channel, mask=inside, other=0.0)
    result = centred / deviation * scale + shift
    tl.store(normalised + place, result.to(normalised.dtype.element_ty), mask=inside)


def add_norm(
    stream: Tensor, branch: Tensor | None, norm: torch.nn.LayerNorm, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Add a branch to a residual stream and normalise the sum.

    Args:
        stream: (…, C) float32 on a CUDA device, contiguous.
        branch: the same shape, of any floating type; None adds nothing.
        norm: over the last dimension, with float32 weights.
        dtype: of the normalised tokens.

    Returns:
        the sum, float32, and the normalised tokens; both (…, C).
    """
    channels = stream.shape[-1]
    summed = stream if branch is None else torch.empty_like(stream)
    normalised = torch.empty_like(stream, dtype=dtype)
    add_and_normalise[(stream.numel() // channels,)](
        stream,
        stream if branch is None else branch.contiguous(),
        norm.weight,
        norm.bias,
        summed,
        normalised,
        norm.eps,
        CHANNELS=channels,
        BLOCK=triton.next_power_of_2(channels),
        ADDS=branch is not None,
        enable_fp_fusion=True,
    )
    return summed, normalised
