"""The anomaly head as one Triton kernel, from predictions to a float32 logit for each pixel.

A program processes a tile of pixels. Bilinear resizing is a product with a sparse matrix. A tile covers only a few
cells of a low-resolution map, so that this product is small and dense, and runs on the tensor cores too::

    S = sigmoid(W_m · M) · P            W_m: pixels × mask cells     M: mask cells × Q     P: Q × C
    s = max, entropy and sum of S over C
    h = relu(W_f · F + s · A)           W_f: pixels × patches        F: patches × hidden   A: 3 × hidden
    logit = relu(h · B + b) · c + d     B: hidden × hidden / 2

For 640×640 pixels, Q = 100, C = 19, hidden = 256 and masks at a quarter of that size, padded to whole blocks, the four
large products are 3.4 + 3.4 + 3.4 + 26.8 GFLOP; there are also 52 million sigmoids and 105 million hidden units. The
kernel reads 6 MB (bfloat16) from device memory and writes 1.6 MB.

Importing this module needs Triton; :func:`eomt_ext_core.scoring.head_scorer.make_head_scorer` sees to that.
"""

from __future__ import annotations

import triton
import triton.language as tl

from eomt_ext_core.kernels.arithmetic import HALF_MAX, LOG2_E, NAN_STAYS, add_product
from eomt_ext_core.scoring.uncertainty import SEMANTIC_FLOOR

FLOOR = tl.constexpr(SEMANTIC_FLOOR)

# With 128 registers per thread, 16 warps share a multiprocessor: some wait for products while others compute sigmoids.
HALF_TILES = [
    triton.Config(
        {"TILE_H": 8, "TILE_W": 8, "BLOCK_Q": 64, "BLOCK_HIDDEN": 32}, num_warps=4, num_stages=2, maxnreg=128
    ),
    triton.Config({"TILE_H": 8, "TILE_W": 8, "BLOCK_Q": 64, "BLOCK_HIDDEN": 64}, num_warps=4, num_stages=2),
    triton.Config(
        {"TILE_H": 8, "TILE_W": 16, "BLOCK_Q": 64, "BLOCK_HIDDEN": 32}, num_warps=8, num_stages=2, maxnreg=128
    ),
    triton.Config({"TILE_H": 8, "TILE_W": 16, "BLOCK_Q": 64, "BLOCK_HIDDEN": 64}, num_warps=8, num_stages=2),
    triton.Config({"TILE_H": 8, "TILE_W": 16, "BLOCK_Q": 32, "BLOCK_HIDDEN": 32}, num_warps=4, num_stages=2),
]
FLOAT_TILE = triton.Config({"TILE_H": 8, "TILE_W": 8, "BLOCK_Q": 32, "BLOCK_HIDDEN": 32}, num_warps=4, num_stages=1)


@triton.jit
def relu(x):
    """Set what is negative to 0; NaN stays."""
    return tl.maximum(x, 0.0, propagate_nan=NAN_STAYS)


@triton.jit
def source_position(target, SOURCE: tl.constexpr, TARGET: tl.constexpr):
    """Compute where the centre of a target cell lies in the source, as bilinear resizing does."""
    scale: tl.constexpr = SOURCE / TARGET
    return tl.clamp((target.to(tl.float32) + 0.5) * scale - 0.5, 0.0, SOURCE - 1.0)


@triton.jit
def hat(position, cell):
    """Weigh cells by their nearness to positions: (positions, cells)."""
    return tl.maximum(1.0 - tl.abs(position[:, None] - cell[None, :].to(tl.float32)), 0.0)


@triton.jit(do_not_specialize=["batch"])
def score_pixels(
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
    BLOCK_SECOND: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
):
    """Score a tile of one image of a batch; see the module's docstring, and :class:`FusedHead` for the shapes.

    ``batch`` is for the choice of the tile alone, as the fastest depends on how many programs there are.
    """
    PIXELS: tl.constexpr = TILE_H * TILE_W
    mlp_type: tl.constexpr = visual.dtype.element_ty
    # Probabilities lie in [0, 1], where float16 is eight times finer than bfloat16.
    probability_type: tl.constexpr = tl.float32 if mlp_type == tl.float32 else tl.float16
    TILES_ACROSS: tl.constexpr = (WIDTH + TILE_W - 1) // TILE_W
    MASK_COLUMNS: tl.constexpr = (TILE_W - 1) * MASK_W // WIDTH + 3
    MASK_CELLS: tl.constexpr = ((TILE_H - 1) * MASK_H // HEIGHT + 3) * MASK_COLUMNS
    BLOCK_CELLS: tl.constexpr = 16 if MASK_CELLS <= 16 else 32 if MASK_CELLS <= 32 else 64
    PATCH_COLUMNS: tl.constexpr = (TILE_W - 1) * PATCH_W // WIDTH + 3
    PATCHES: tl.constexpr = ((TILE_H - 1) * PATCH_H // HEIGHT + 3) * PATCH_COLUMNS
    BLOCK_PATCHES: tl.constexpr = 16 if PATCHES <= 16 else 32 if PATCHES <= 32 else 64
    UNITS: tl.constexpr = BLOCK_HIDDEN if BLOCK_HIDDEN < HIDDEN else HIDDEN

    image = tl.program_id(1).to(tl.int64)
    mask_logits += image * (QUERIES * MASK_H * MASK_W)
    class_probs += image * (QUERIES * (CLASSES + 1))
    visual += image * (PATCH_H * PATCH_W * HIDDEN)
    top = tl.program_id(0) // TILES_ACROSS * TILE_H
    left = tl.program_id(0) % TILES_ACROSS * TILE_W
    pixel = tl.arange(0, PIXELS)
    y = top + pixel // TILE_W
    x = left + pixel % TILE_W

    source_y, source_x = source_position(y, MASK_H, HEIGHT), source_position(x, MASK_W, WIDTH)
    first_row = source_position(top, MASK_H, HEIGHT).to(tl.int32)
    first_column = source_position(left, MASK_W, WIDTH).to(tl.int32)
    max_prob = tl.zeros((PIXELS,), tl.float32)
    entropy = tl.zeros((PIXELS,), tl.float32)
    energy = tl.zeros((PIXELS,), tl.float32)
    for first_class in range(0, CLASSES, BLOCK_C):
        known = first_class + tl.arange(0, BLOCK_C)
        semantic = tl.zeros((PIXELS, BLOCK_C), tl.float32)
        for first_query in range(0, QUERIES, BLOCK_Q):
            query = first_query + tl.arange(0, BLOCK_Q)
            in_queries = (query < QUERIES)[:, None]
            mask = tl.zeros((PIXELS, BLOCK_Q), tl.float32)
            for first_cell in range(0, MASK_CELLS, BLOCK_CELLS):
                cell = first_cell + tl.arange(0, BLOCK_CELLS)
                row = first_row + cell // MASK_COLUMNS
                column = first_column + cell % MASK_COLUMNS
                weight = hat(source_y, row) * hat(source_x, column)
                place = query[:, None] * (MASK_H * MASK_W) + (row * MASK_W + column)[None, :]
                in_map = ((row < MASK_H) & (column < MASK_W))[None, :]
                values = tl.load(mask_logits + place, mask=in_queries & in_map, other=0.0).to(tl.float32)
                if probability_type == tl.float16:
                    values = tl.clamp(values, -HALF_MAX, HALF_MAX, propagate_nan=NAN_STAYS)
                mask = add_product(weight, tl.trans(values.to(probability_type)), mask, probability_type)
            place = query[:, None] * (CLASSES + 1) + known[None, :]
            probs = tl.load(class_probs + place, mask=in_queries & (known < CLASSES)[None, :], other=0.0)
            # The sigmoid in the two instructions that the special function unit has: 1 / d as rsqrt(d)².
            root = tl.rsqrt(1.0 + tl.exp2(mask * -LOG2_E))
            semantic = add_product(root * root, probs, semantic, probability_type)
        floored = tl.maximum(semantic, FLOOR, propagate_nan=NAN_STAYS)
        entropy -= tl.sum(tl.where((known < CLASSES)[None, :], floored * tl.log(floored), 0.0), axis=1)
        energy += tl.sum(semantic, axis=1)
        max_prob = tl.maximum(max_prob, tl.max(semantic, axis=1))

    source_y, source_x = source_position(y, PATCH_H, HEIGHT), source_position(x, PATCH_W, WIDTH)
    first_row = source_position(top, PATCH_H, HEIGHT).to(tl.int32)
    first_column = source_position(left, PATCH_W, WIDTH).to(tl.int32)
    logit = tl.zeros((PIXELS,), tl.float32) + tl.load(last_bias)
    for first_second in range(0, SECOND, BLOCK_SECOND):
        second_unit = first_second + tl.arange(0, BLOCK_SECOND)
        second = tl.zeros((PIXELS, BLOCK_SECOND), tl.float32)
        for first_unit in range(0, HIDDEN, UNITS):
            unit = first_unit + tl.arange(0, UNITS)
            hidden = tl.zeros((PIXELS, UNITS), tl.float32)
            for first_cell in range(0, PATCHES, BLOCK_PATCHES):
                cell = first_cell + tl.arange(0, BLOCK_PATCHES)
                row = first_row + cell // PATCH_COLUMNS
                column = first_column + cell % PATCH_COLUMNS
                weight = hat(source_y, row) * hat(source_x, column)
                place = (row * PATCH_W + column)[:, None] * HIDDEN + unit[None, :]
                values = tl.load(visual + place, mask=((row < PATCH_H) & (column < PATCH_W))[:, None], other=0.0)
                hidden = add_product(weight, values, hidden, mlp_type)
            hidden += max_prob[:, None] * tl.load(statistics_weight + unit)[None, :]
            hidden += entropy[:, None] * tl.load(statistics_weight + HIDDEN + unit)[None, :]
            hidden += energy[:, None] * tl.load(statistics_weight + 2 * HIDDEN + unit)[None, :]
            weight = tl.load(second_weight + unit[:, None] * SECOND + second_unit[None, :])
            second = add_product(relu(hidden), weight, second, mlp_type)
        second = relu(second + tl.load(second_bias + second_unit)[None, :])
        logit += tl.sum(second * tl.load(last_weight + second_unit)[None, :], axis=1)

    place = image * (HEIGHT * WIDTH) + y * WIDTH + x
    inside = (y < HEIGHT) & (x < WIDTH)
    tl.store(logits + place, logit, mask=inside)
