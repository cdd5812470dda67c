"""Patch embedding from bytes as one product of 16-bit numbers that is as exact as float32.

A byte less 128 is exact in bfloat16, and a float32 weight is the sum of two bfloat16 to 16 bits: two products on the
tensor cores, summed in float32, err less than one in TF32 (2.4e-6 where that has 3.0e-4, of random weights).
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from eomt_ext_core.kernels.arithmetic import add_product

MIDDLE = 128  # of the bytes
_BLOCK_K = 32


@triton.jit
def embed_patches(
    windows,
    upper,
    lower,
    still,
    tokens,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PATCH: tl.constexpr,
    CHANNELS: tl.constexpr,
    PREFIX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Embed ``BLOCK_M`` patches of a window in ``BLOCK_N`` channels."""
    LENGTH: tl.constexpr = 3 * PATCH * PATCH
    WIDTH: tl.constexpr = COLUMNS * PATCH
    PLANE: tl.constexpr = ROWS * PATCH * WIDTH
    window = tl.program_id(2).to(tl.int64)
    patch = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_patch, is_channel = patch < ROWS * COLUMNS, channel < CHANNELS
    corner = window * (3 * PLANE) + patch // COLUMNS * (PATCH * WIDTH) + patch % COLUMNS * PATCH
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, LENGTH, BLOCK_K):
        number = first + tl.arange(0, BLOCK_K)
        pixel = number // (PATCH * PATCH) * PLANE + number % (PATCH * PATCH) // PATCH * WIDTH + number % PATCH
        known = number < LENGTH
        inside = is_patch[:, None] & known[None, :]
        levels = tl.load(windows + corner[:, None] + pixel[None, :], mask=inside, other=0)
        levels = levels.to(tl.float32) - 128.0
        place = number[:, None] * CHANNELS + channel[None, :]
        inside = known[:, None] & is_channel[None, :]
        total = add_product(levels, tl.load(upper + place, mask=inside, other=0.0), total, tl.bfloat16)
        total = add_product(levels, tl.load(lower + place, mask=inside, other=0.0), total, tl.bfloat16)
    inside = is_patch[:, None] & is_channel[None, :]
    place = (PREFIX + patch)[:, None] * CHANNELS + channel[None, :]
    total += tl.load(still + place, mask=inside, other=0.0)
    tl.store(tokens + window * ((PREFIX + ROWS * COLUMNS) * CHANNELS) + place, total, mask=inside)


def embed(
    windows: Tensor, upper: Tensor, lower: Tensor, still: Tensor, prefix: int, grid_hw: tuple[int, int]
) -> Tensor:
    """Embed windows.

    Args:
        windows: (B, 3, H, W) uint8 on a CUDA device, contiguous.
        upper: (3 · patch², C) bfloat16, the weights of a pixel's level; with ``lower`` what was rounded off them.
        still: (prefix + patches, C) float32, the tokens of a window of the level ``MIDDLE``.
        prefix: tokens before the patches, which are those of ``still``.
        grid_hw: patches downwards and to the right.

    Returns:
        (B, prefix + patches, C) float32 tokens.
    """
    (rows, columns), batch = grid_hw, windows.shape[0]
    length, channels = still.shape
    tokens = still.new_empty((batch, length, channels))
    tokens[:, :prefix] = still[:prefix]
    block_m, block_n = 64, min(64, triton.next_power_of_2(channels))
    embed_patches[(triton.cdiv(rows * columns, block_m), triton.cdiv(channels, block_n), batch)](
        windows,
        upper,
        lower,
        still,
        tokens,
        ROWS=rows,
        COLUMNS=columns,
        PATCH=windows.shape[3] // columns,
        CHANNELS=channels,
        PREFIX=prefix,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=_BLOCK_K,
        enable_fp_fusion=True,
    )
    return tokens
