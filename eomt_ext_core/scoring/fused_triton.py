"""The anomaly head with the fused Triton kernel: work for each patch and query is here, work for each pixel there.

Importing this module needs Triton; :func:`~eomt_ext_core.scoring.head_scorer.make_head_scorer` checks that first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.kernels.choice import fastest
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored_weights import FactoredWeights
from eomt_ext_core.scoring.fused_kernel import FLOAT_TILE, HALF_TILES, score_pixels
from eomt_ext_core.scoring.lean_kernel import LEAN_TILES, score_pixels_lean

HIDDEN_BLOCK = 64
SECOND_BLOCK = 128
CLASS_BLOCK = 128
SMALLEST_BLOCK = 16  # of a product on tensor cores

_SIZES = ["batch", "QUERIES", "CLASSES", "MASK_H", "MASK_W", "PATCH_H", "PATCH_W", "HEIGHT", "WIDTH", "HIDDEN"]
# Triton keeps the times of tilings beside the compiled kernels, for the next start.
_TUNED = triton.autotune(HALF_TILES, key=_SIZES, cache_results=True)(score_pixels)
_TUNED_LEAN = triton.autotune(LEAN_TILES, key=_SIZES, cache_results=True)(score_pixels_lean)
_LEAN_CLASSES = 64
_LEAN_HIDDEN = (64, 128, 256)
_LEAN_CELLS = 64
_WIDEST_TILE = 16
_PROGRAMS = 2  # of the lean kernel on a multiprocessor
_BOUND = 1 / 64  # between kernels, of the largest logit


class FusedHead:
    """Compute anomaly logits from predictions by one kernel, equal to those of :class:`~.factored.FactoredHead`.

    In 16 bits, of two kernels the faster is kept, if the sizes are such that :mod:`~.lean_kernel` takes them.

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
        self._kernels: dict[Any, str] = {}

    def __call__(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel: see :class:`~.factored.FactoredHead`, with the same shapes and types."""
        logits = mask_logits.new_empty((mask_logits.shape[0], *img_size, 1), dtype=torch.float32)
        self._score(mask_logits, class_logits, features, logits)
        return logits

    @torch.no_grad()
    def _score(self, mask_logits: Tensor, class_logits: Tensor, features: Tensor, logits: Tensor) -> None:
        visual = self._weights[features.dtype].project(features).contiguous()
        class_probs = class_logits.float().softmax(dim=-1)

        def by(kernel: str) -> Tensor:
            launch = self._launch_lean if kernel == "lean" else self._launch
            launch(mask_logits, class_probs, visual, logits)
            return logits

        with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
            by(self._kernel_of(by, mask_logits, class_probs, visual, logits))

    def _kernel_of(
        self, by: Callable[[str], Tensor], masks: Tensor, class_probs: Tensor, visual: Tensor, logits: Tensor
    ) -> str:
        """Choose ``lean`` or ``wide`` for these sizes: the faster one."""
        if self._tile is not None:
            return "wide" if "BLOCK_Q" in self._tile.kwargs else "lean"
        shapes = masks.shape, visual.shape, logits.shape
        if visual.dtype == torch.float32 or not _is_lean(class_probs.shape[2] - 1, *shapes):
            return "wide"
        sizes = *shapes, class_probs.shape, visual.dtype
        if sizes not in self._kernels:
            ways = {kernel: lambda kernel=kernel: by(kernel).clone() for kernel in ("wide", "lean")}
            what, inputs = f"scoring of {len(logits)} windows", ", ".join(map(str, sizes))
            self._kernels[sizes] = fastest(what, ways, _BOUND, logits.device, inputs)
        return self._kernels[sizes]

    def _launch(self, mask_logits: Tensor, class_probs: Tensor, visual: Tensor, logits: Tensor) -> None:
        batch, height, width = logits.shape[:3]
        classes = class_probs.shape[2] - 1

        def grid(tile: dict[str, Any]) -> tuple[int, int]:
            return _tiles(height, width, tile), batch

        tile = FLOAT_TILE if self._tile is None and visual.dtype == torch.float32 else self._tile
        kernel = _TUNED if tile is None else score_pixels
        kernel[grid](
            mask_logits.contiguous(),
            class_probs.contiguous(),
            visual,
            self._weights[torch.float32].statistics,
            *self._later_layers(visual.dtype),
            logits,
            batch,
            MASK_H=mask_logits.shape[2],
            MASK_W=mask_logits.shape[3],
            BLOCK_C=min(_whole_blocks(classes, CLASS_BLOCK), CLASS_BLOCK),
            BLOCK_SECOND=min(self._second_by_unit[visual.dtype].shape[1], SECOND_BLOCK),
            **self._sizes(class_probs, visual, logits),
            **({} if tile is None else tile.all_kwargs()),
        )

    def _launch_lean(self, mask_logits: Tensor, class_probs: Tensor, visual: Tensor, logits: Tensor) -> None:
        batch, height, width = logits.shape[:3]
        queries, classes = class_probs.shape[1], class_probs.shape[2] - 1
        block, padded = _whole_blocks(classes, CLASS_BLOCK), -(-queries // SMALLEST_BLOCK) * SMALLEST_BLOCK
        probs = F.pad(class_probs[..., :-1], (0, block - classes, 0, padded - queries)).half()

        def grid(tile: dict[str, Any]) -> tuple[int]:
            return (min(batch * _tiles(height, width, tile), _PROGRAMS * _multiprocessors(logits.device)),)

        kernel = _TUNED_LEAN if self._tile is None else score_pixels_lean
        kernel[grid](
            mask_logits.permute(0, 2, 3, 1).contiguous(),
            probs,
            visual,
            self._weights[torch.float32].statistics,
            *self._later_layers(visual.dtype),
            logits,
            batch,
            QUERIES_PADDED=padded,
            MASK_H=mask_logits.shape[2],
            MASK_W=mask_logits.shape[3],
            BLOCK_C=block,
            **self._sizes(class_probs, visual, logits),
            **({} if self._tile is None else self._tile.all_kwargs()),
        )

    def _later_layers(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        exact = self._weights[torch.float32]
        return self._second_by_unit[dtype], exact.second_bias, exact.last, exact.last_bias

    def _sizes(self, class_probs: Tensor, visual: Tensor, logits: Tensor) -> dict[str, Any]:
        return {
            "QUERIES": class_probs.shape[1],
            "CLASSES": class_probs.shape[2] - 1,
            "PATCH_H": visual.shape[1],
            "PATCH_W": visual.shape[2],
            "HEIGHT": logits.shape[1],
            "WIDTH": logits.shape[2],
            "HIDDEN": visual.shape[3],
            "SECOND": self._second_by_unit[visual.dtype].shape[1],
            "enable_fp_fusion": True,
        }


def _is_lean(classes: int, masks: torch.Size, visual: torch.Size, logits: torch.Size) -> bool:
    """Whether the lean kernel takes these sizes.

    It takes few classes, a head of a power of two, 3×3 patches under a tile, and as many cells of the masks as one
    product has.
    """
    size_hw = logits[1:3]
    patches = all((_WIDEST_TILE - 1) * side < pixels for side, pixels in zip(visual[1:3], size_hw, strict=True))
    rows, columns = ((_WIDEST_TILE - 1) * side // pixels + 3 for side, pixels in zip(masks[2:], size_hw, strict=True))
    return classes <= _LEAN_CLASSES and visual[3] in _LEAN_HIDDEN and patches and rows * columns <= _LEAN_CELLS


def _tiles(height: int, width: int, tile: dict[str, Any]) -> int:
    return -(-height // int(tile["TILE_H"])) * -(-width // int(tile["TILE_W"]))


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


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
