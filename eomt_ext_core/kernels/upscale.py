"""The second half of an upscaling block in one kernel: placing of the successors, depthwise convolution, LayerNorm."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 4
WARPS = 8


@triton.jit
def mix_and_normalise(
    successors,
    taps,
    weight,
    bias,
    result,
    epsilon,
    SOURCE_H: tl.constexpr,
    SOURCE_W: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """Process neighbouring pixels of a row of the result, all channels of each, in float32."""
    WIDTH: tl.constexpr = 2 * SOURCE_W
    ACROSS: tl.constexpr = (WIDTH + PIXELS - 1) // PIXELS
    line = tl.program_id(0) // ACROSS
    image = line // (2 * SOURCE_H)
    y = line % (2 * SOURCE_H) + tl.zeros((PIXELS,), tl.int32)
    x = tl.program_id(0) % ACROSS * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, BLOCK)
    known = channel < CHANNELS
    mixed = tl.zeros((PIXELS, BLOCK), tl.float32)
    for tap in tl.static_range(9):
        row, column = y + tap // 3 - 1, x + tap % 3 - 1
        inside = (row >= 0) & (row < 2 * SOURCE_H) & (column >= 0) & (column < WIDTH)
        # the successors of a source position lie beside each other
        source = (image * SOURCE_H + row // 2) * SOURCE_W + column // 2
        place = (source * 4 + row % 2 * 2 + column % 2).to(tl.int64) * CHANNELS
        values = tl.load(
            successors + place[:, None] + channel[None, :], mask=inside[:, None] & known[None, :], other=0.0
        )
        mixed += values.to(tl.float32) * tl.load(taps + tap * CHANNELS + channel, mask=known, other=0.0)[None, :]
    mean = tl.sum(mixed, axis=1) / CHANNELS
    centred = tl.where(known[None, :], mixed - mean[:, None], 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, axis=1) / CHANNELS + epsilon)
    scale = tl.load(weight + channel, mask=known, other=0.0)
    shift = tl.load(bias + channel, mask=known, other=0.0)
    normalised = centred / deviation[:, None] * scale[None, :] + shift[None, :]
    place = (line.to(tl.int64) * WIDTH + x)[:, None] * CHANNELS + channel[None, :]
    tl.store(result + place, normalised.to(result.dtype.element_ty), mask=(x < WIDTH)[:, None] & known[None, :])


def mix_norm(successors: Tensor, taps: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Place successors, convolve each channel with 3×3 taps and normalise the channels of each pixel.

    Args:
        successors: (B, h, w, 4·C), contiguous on a CUDA device: of each position its upper left, upper right, lower
            left and lower right successor.
        taps: (9, C) float32, row by row.
        weight: (C,), of any floating type, of the normalisation, with ``bias`` and ``epsilon``.

    Returns:
        (B, 2h, 2w, C) of the type of the successors.
    """
    batch, height, width, channels = successors.shape
    channels //= 4
    result = successors.new_empty((batch, 2 * height, 2 * width, channels))
    mix_and_normalise[(batch * 2 * height * triton.cdiv(2 * width, _PIXELS),)](
        successors,
        taps,
        weight,
        bias,
        result,
        epsilon,
        SOURCE_H=height,
        SOURCE_W=width,
        CHANNELS=channels,
        BLOCK=triton.next_power_of_2(channels),
        PIXELS=_PIXELS,
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
    return result
