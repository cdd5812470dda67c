"""The anomaly head with the fused Triton kernel: work for each patch and query is here, work for each pixel there.

Importing this module needs Triton; :func:`~eomt_ext_core.scoring.head_scorer.make_head_scorer` checks that first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored_weights import FactoredWeights
from eomt_ext_core.scoring.fused_kernel import FLOAT_TILE, HALF_TILES, score_pixels

HIDDEN_BLOCK = 64
SECOND_BLOCK = 128
CLASS_BLOCK = 128
SMALLEST_BLOCK = 16  # of a product on tensor cores

_TUNED = triton.autotune(
    HALF_TILES,
    key=["batch", "QUERIES", "CLASSES", "MASK_H", "MASK_W", "PATCH_H", "PATCH_W", "HEIGHT", "WIDTH", "HIDDEN"],
)(score_pixels)


class FusedHead:
    """Compute anomaly logits from predictions by one kernel, equal to those of :class:`~.factored.FactoredHead`.

    The arithmetic follows the type of ``features``. With float32 every product is float32, never TF32. With bfloat16 or
    float16 the operands of the MLP's products have that type, probabilities and mask logits are float16 (mask logits
    are clamped to ±65504), and sums, statistics and logits are float32. NaN propagates as in the PyTorch form, and also
    to other pixels of the same tile; so does infinity.

    The first call with new sizes compiles the kernel, for 16-bit features with several tilings, of which the fastest
    for each batch size is kept: this takes seconds and must happen before a CUDA graph is captured. Later calls compile
    nothing, wait for nothing and allocate the result, the projected features and the class probabilities.

    Args:
        head: the trained head; its weights are copied on their device.
        reason: reason for the choice of this implementation.
        tile: a fixed tiling instead of the fastest.
    """

    name = "triton"

    def __init__(self, head: PixelAnomalyHead, reason: str = "asked for", tile: triton.Config | None = None) -> None:
        self.reason = reason
        self._tile = tile
        weights = _padded(FactoredWeights.of(head))
        self._weights = {dtype: weights.to(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)}
        self._second_by_unit = {dtype: part.second.t().contiguous() for dtype, part in self._weights.items()}

    def __call__(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel: see :class:`~.factored.FactoredHead`, with the same shapes and types."""
        logits = mask_logits.new_empty((mask_logits.shape[0], *img_size, 1), dtype=torch.float32)
        self._launch(mask_logits, class_logits, features, logits)
        return logits

    @torch.no_grad()
    def _launch(self, mask_logits: Tensor, class_logits: Tensor, features: Tensor, logits: Tensor) -> None:
        weights, exact = self._weights[features.dtype], self._weights[torch.float32]
        class_probs = class_logits.float().softmax(dim=-1)
        visual = weights.project(features)
        batch, height, width = logits.shape[:3]
        classes, second = class_probs.shape[2] - 1, weights.second.shape[0]

        def grid(tile: dict[str, Any]) -> tuple[int, int]:
            return -(-height // tile["TILE_H"]) * -(-width // tile["TILE_W"]), batch

        tile = FLOAT_TILE if self._tile is None and features.dtype == torch.float32 else self._tile
        kernel = _TUNED if tile is None else score_pixels
        with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
            kernel[grid](
                mask_logits.contiguous(),
                class_probs.contiguous(),
                visual.contiguous(),
                exact.statistics,
                self._second_by_unit[features.dtype],
                exact.second_bias,
                exact.last,
                exact.last_bias,
                logits,
                batch,
                QUERIES=class_probs.shape[1],
                CLASSES=classes,
                MASK_H=mask_logits.shape[2],
                MASK_W=mask_logits.shape[3],
                PATCH_H=visual.shape[1],
                PATCH_W=visual.shape[2],
                HEIGHT=height,
                WIDTH=width,
                HIDDEN=visual.shape[3],
                SECOND=second,
                BLOCK_C=min(_whole_blocks(classes, CLASS_BLOCK), CLASS_BLOCK),
                BLOCK_SECOND=min(second, SECOND_BLOCK),
                enable_fp_fusion=True,
                **({} if tile is None else tile.all_kwargs()),
            )


def _padded(weights: FactoredWeights) -> FactoredWeights:
    """Pad to whole blocks with units of weight 0, which have no effect."""
    units = _whole_blocks(weights.visual.shape[0], HIDDEN_BLOCK) - weights.visual.shape[0]
    second_units = _whole_blocks(weights.second.shape[0], SECOND_BLOCK) - weights.second.shape[0]
    return dataclasses.replace(
        weights,
        visual=F.pad(weights.visual, (0, 0, 0, units)),
        visual_bias=F.pad(weights.visual_bias, (0, units)),
        statistics=F.pad(weights.statistics, (0, units)),
        second=F.pad(weights.second, (0, units, 0, second_units)),
        second_bias=F.pad(weights.second_bias, (0, second_units)),
        last=F.pad(weights.last, (0, second_units)),
    )


def _whole_blocks(size: int, block: int) -> int:
    """Round up to a multiple of ``block``; below a block, to a power of two, at least 16."""
    if size > block:
        return -(-size // block) * block
    return max(SMALLEST_BLOCK, 1 << (size - 1).bit_length())
