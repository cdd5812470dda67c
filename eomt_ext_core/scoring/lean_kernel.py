"""The fused kernel of :mod:`~.fused_kernel` with fewer instructions, for heads and classes of the usual sizes.

It computes the same by the same products. Masks come with the queries last, as the network gives them. Class
probabilities come padded, so that nothing is masked. A pixel's patches leave rows of a product on tensor cores unused:
three hold the statistics, and three what rounding to float16 took off them. A program scores many tiles, and reads
the weights of the second layer once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from eomt_ext_core.kernels.arithmetic import HALF_MAX, LOG2_E, NAN_STAYS, add_product
from eomt_ext_core.scoring.fused_kernel import FLOOR, hat, relu, source_position

_LN_2 = tl.constexpr(0.6931471805599453)
_PATCHES = tl.constexpr(9)  # of a tile

LEAN_TILES = [triton.Config({"TILE_H": 8, "TILE_W": width}, num_warps=width // 2, num_stages=2) for width in (8, 16)]


@triton.jit
def _add_queries(
    semantic,
    weight,
    masks_at,
    probs_at,
    FIRST: tl.constexpr,
    SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Add what some queries give to the semantic map of a tile."""
    query = FIRST + tl.arange(0, SIZE)
    values = tl.load(masks_at + query[None, :], mask=(query < QUERIES)[None, :], other=0.0).to(tl.float32)
    values = tl.clamp(values, -HALF_MAX, HALF_MAX, propagate_nan=NAN_STAYS)
    mask = add_product(weight, values, tl.zeros((weight.shape[0], SIZE), tl.float32), tl.float16)
    root = tl.rsqrt(1.0 + tl.exp2(mask * -LOG2_E))
    probs = tl.load(probs_at + query[:, None] * BLOCK_C + tl.arange(0, BLOCK_C)[None, :])
    return add_product(root * root, probs, semantic, tl.float16)


@triton.jit
def _add_units(
    second,
    weight,
    visual_at,
    statistics_at,
    is_patch,
    second_weight,
    FIRST: tl.constexpr,
    UNITS: tl.constexpr,
):
    """Add what some hidden units give to the second layer."""
    unit = (FIRST + tl.arange(0, UNITS))[None, :]
    values = tl.load(visual_at + unit, mask=is_patch[:, None], other=0.0).to(tl.float32)
    values = tl.clamp(values, -HALF_MAX, HALF_MAX, propagate_nan=NAN_STAYS)
    values += tl.load(statistics_at + unit, mask=(~is_patch)[:, None], other=0.0)
    hidden = add_product(weight, values, tl.zeros((weight.shape[0], UNITS), tl.float32), tl.float16)
    return add_product(relu(hidden), second_weight, second, visual_at.dtype.element_ty)


@triton.jit(do_not_specialize=["batch"])
def score_pixels_lean(
    mask_logits,
    class_probs,
    visual,
    statistics_weight,
    second_weight,
    second_bias,
    last_weight,
    last_bias,
    logits,
    batch,
    QUERIES: tl.constexpr,
    QUERIES_PADDED: tl.constexpr,
    CLASSES: tl.constexpr,
    MASK_H: tl.constexpr,
    MASK_W: tl.constexpr,
    PATCH_H: tl.constexpr,
    PATCH_W: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    SECOND: tl.constexpr,
    BLOCK_C: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
):
    """Score tiles; see the module's docstring, and ``fused_triton.FusedHead`` for the shapes."""
    PIXELS: tl.constexpr = TILE_H * TILE_W
    TILES_ACROSS: tl.constexpr = (WIDTH + TILE_W - 1) // TILE_W
    TILES: tl.constexpr = (HEIGHT + TILE_H - 1) // TILE_H * TILES_ACROSS
    MASK_COLUMNS: tl.constexpr = (TILE_W - 1) * MASK_W // WIDTH + 3
    MASK_CELLS: tl.constexpr = ((TILE_H - 1) * MASK_H // HEIGHT + 3) * MASK_COLUMNS
    BLOCK_CELLS: tl.constexpr = 16 if MASK_CELLS <= 16 else 32 if MASK_CELLS <= 32 else 64
    UNITS: tl.constexpr = HIDDEN // 4
    REST: tl.constexpr = QUERIES % 64
    WHOLE: tl.constexpr = QUERIES - REST

    second_unit = tl.arange(0, SECOND)
    weight_at = second_weight + tl.arange(0, UNITS)[:, None] * SECOND + second_unit[None, :]
    weight_0, weight_1 = tl.load(weight_at), tl.load(weight_at + UNITS * SECOND)
    weight_2, weight_3 = tl.load(weight_at + 2 * UNITS * SECOND), tl.load(weight_at + 3 * UNITS * SECOND)
    of_second_bias = tl.load(second_bias + second_unit)[None, :]
    of_last_weight = tl.load(last_weight + second_unit)[None, :]
    of_last_bias = tl.load(last_bias)
    for number in range(tl.program_id(0), TILES * batch, tl.num_programs(0)):
        index = tl.full((), 0, tl.int32) + number
        image = (index // TILES).to(tl.int64)
        tile = index % TILES
        top, left = tile // TILES_ACROSS * TILE_H, tile % TILES_ACROSS * TILE_W
        pixel = tl.arange(0, PIXELS)
        y, x = top + pixel // TILE_W, left + pixel % TILE_W

        # A cell beyond the map has no weight, and only needs an address.
        cell = tl.arange(0, BLOCK_CELLS)
        row = source_position(top, MASK_H, HEIGHT).to(tl.int32) + cell // MASK_COLUMNS
        column = source_position(left, MASK_W, WIDTH).to(tl.int32) + cell % MASK_COLUMNS
        weight = hat(source_position(y, MASK_H, HEIGHT), row) * hat(source_position(x, MASK_W, WIDTH), column)
        place = (tl.minimum(row, MASK_H - 1) * MASK_W + tl.minimum(column, MASK_W - 1)) * QUERIES
        masks_at = mask_logits + image * (MASK_H * MASK_W * QUERIES) + place[:, None]
        probs_at = class_probs + image * (QUERIES_PADDED * BLOCK_C)
        semantic = tl.zeros((PIXELS, BLOCK_C), tl.float32)
        for first in tl.static_range(0, WHOLE, 64):
            semantic = _add_queries(semantic, weight, masks_at, probs_at, first, 64, QUERIES, BLOCK_C)
        if REST > 48:
            semantic = _add_queries(semantic, weight, masks_at, probs_at, WHOLE, 64, QUERIES, BLOCK_C)
        elif REST > 32:
            semantic = _add_queries(semantic, weight, masks_at, probs_at, WHOLE, 32, QUERIES, BLOCK_C)
            semantic = _add_queries(semantic, weight, masks_at, probs_at, WHOLE + 32, 16, QUERIES, BLOCK_C)
        elif REST > 16:
            semantic = _add_queries(semantic, weight, masks_at, probs_at, WHOLE, 32, QUERIES, BLOCK_C)
        elif REST > 0:
            semantic = _add_queries(semantic, weight, masks_at, probs_at, WHOLE, 16, QUERIES, BLOCK_C)
        known = (tl.arange(0, BLOCK_C) < CLASSES)[None, :]
        floored = tl.maximum(semantic, FLOOR, propagate_nan=NAN_STAYS)
        entropy = -_LN_2 * tl.sum(tl.where(known, floored * tl.log2(floored), 0.0), axis=1)
        energy = tl.sum(semantic, axis=1)
        max_prob = tl.max(semantic, axis=1)

        cell = tl.arange(0, 16)
        row = source_position(top, PATCH_H, HEIGHT).to(tl.int32) + cell // 3
        column = source_position(left, PATCH_W, WIDTH).to(tl.int32) + cell % 3
        weight = hat(source_position(y, PATCH_H, HEIGHT), row) * hat(source_position(x, PATCH_W, WIDTH), column)
        is_patch = cell < _PATCHES
        weight = tl.where(is_patch[None, :], weight, 0.0)
        # the rows after the patches: the statistics, and what rounding takes off them
        rounded = max_prob.to(tl.float16).to(tl.float32)
        weight = tl.where((cell == 9)[None, :], rounded[:, None], weight)
        weight = tl.where((cell == 12)[None, :], (max_prob - rounded)[:, None], weight)
        rounded = entropy.to(tl.float16).to(tl.float32)
        weight = tl.where((cell == 10)[None, :], rounded[:, None], weight)
        weight = tl.where((cell == 13)[None, :], (entropy - rounded)[:, None], weight)
        rounded = energy.to(tl.float16).to(tl.float32)
        weight = tl.where((cell == 11)[None, :], rounded[:, None], weight)
        weight = tl.where((cell == 14)[None, :], (energy - rounded)[:, None], weight)
        place = (tl.minimum(row, PATCH_H - 1) * PATCH_W + tl.minimum(column, PATCH_W - 1)) * HIDDEN
        visual_at = visual + image * (PATCH_H * PATCH_W * HIDDEN) + place[:, None]
        statistics_at = statistics_weight + (cell % 3 * HIDDEN)[:, None]
        second = tl.zeros((PIXELS, SECOND), tl.float32)
        second = _add_units(second, weight, visual_at, statistics_at, is_patch, weight_0, 0, UNITS)
        second = _add_units(second, weight, visual_at, statistics_at, is_patch, weight_1, UNITS, UNITS)
        second = _add_units(second, weight, visual_at, statistics_at, is_patch, weight_2, 2 * UNITS, UNITS)
        second = _add_units(second, weight, visual_at, statistics_at, is_patch, weight_3, 3 * UNITS, UNITS)
        second = relu(second + of_second_bias)
        logit = of_last_bias + tl.sum(second * of_last_weight, axis=1)
        inside = (y < HEIGHT) & (x < WIDTH)
        tl.store(logits + image * (HEIGHT * WIDTH) + y * WIDTH + x, logit, mask=inside)
