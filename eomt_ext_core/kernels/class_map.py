"""The best class of each pixel, from a smaller semantic map, in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256


_OF_AN_IMAGE = ["semantic", "class_stride", "row_stride", "source_h", "source_w", "height", "width"]


@triton.jit(do_not_specialize=_OF_AN_IMAGE)  # so that no image waits for a compilation for its size
def best_classes(
    semantic,
    classes,
    class_stride,
    row_stride,
    source_h,
    source_w,
    height,
    width,
    y_scale,
    x_scale,
    CLASSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Resize all classes at some pixels, bilinearly as torch does, and keep the first of the largest."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    y = tl.maximum((pixel // width + 0.5) * y_scale - 0.5, 0.0)
    x = tl.maximum((pixel % width + 0.5) * x_scale - 0.5, 0.0)
    top, left = tl.minimum(y.to(tl.int32), source_h - 1), tl.minimum(x.to(tl.int32), source_w - 1)
    bottom, right = tl.minimum(top + 1, source_h - 1), tl.minimum(left + 1, source_w - 1)
    below, beside = y - top, x - left
    best = tl.zeros((BLOCK,), tl.float32)
    found = tl.zeros((BLOCK,), tl.int32)
    for index in range(CLASSES):
        upper = semantic + top * row_stride
        lower = semantic + bottom * row_stride
        above = (1 - beside) * tl.load(upper + left, mask=inside) + beside * tl.load(upper + right, mask=inside)
        under = (1 - beside) * tl.load(lower + left, mask=inside) + beside * tl.load(lower + right, mask=inside)
        value = (1 - below) * above + below * under
        better = (value > best) | (index == 0)
        best = tl.where(better, value, best)
        found = tl.where(better, index, found)
        semantic += class_stride
    tl.store(classes + pixel, found.to(tl.uint8), mask=inside)


def class_map(semantic: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize a semantic map and take the best class of each pixel, the first of equals.

    Args:
        semantic: (C, h, w) float32 on a CUDA device, C ≤ 256, neighbours in a row beside each other in memory.
        size_hw: height and width of the result.

    Returns:
        (H, W) uint8.
    """
    (height, width), (num_classes, source_h, source_w) = size_hw, semantic.shape
    classes = torch.empty(size_hw, dtype=torch.uint8, device=semantic.device)
    best_classes[(triton.cdiv(height * width, _BLOCK),)](
        semantic,
        classes,
        semantic.stride(0),
        semantic.stride(1),
        source_h,
        source_w,
        height,
        width,
        source_h / height,
        source_w / width,
        CLASSES=num_classes,
        BLOCK=_BLOCK,
        enable_fp_fusion=True,
    )
    return classes
