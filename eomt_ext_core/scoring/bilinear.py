"""Bilinear resizing of a channels-last map in bands of rows, so that the whole result never takes memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class BilinearRows:
    """Resize (B, h, w, C) to rows of (B, H, W, C), as ``interpolate(mode="bilinear", align_corners=False)`` does.

    Args:
        source: (B, h, w, C), contiguous.
        target_hw: height and width of the whole result.
    """

    def __init__(self, source: Tensor, target_hw: tuple[int, int]) -> None:
        self._source = source
        height, self._width = target_hw
        rows = source.shape[1]
        centre = (torch.arange(height, dtype=torch.float32, device=source.device) + 0.5) * (rows / height) - 0.5
        centre.clamp_(min=0.0)
        above = centre.floor().long().clamp_(max=rows - 1)
        self._above = above
        self._below = (above + 1).clamp_(max=rows - 1)
        self._below_weight = (centre - above).clamp_(0.0, 1.0).to(source.dtype)[:, None, None]

    def __call__(self, start: int, stop: int) -> Tensor:
        """Compute rows ``start`` to ``stop`` of the result: (B, stop − start, W, C)."""
        # index_select: unlike that of indexing, its gradient adds up in a fixed order
        above, below = (self._source.index_select(1, rows[start:stop]) for rows in (self._above, self._below))
        band = torch.lerp(above, below, self._below_weight[start:stop]).permute(0, 3, 1, 2)
        wide = F.interpolate(band, (stop - start, self._width), mode="bilinear", align_corners=False)
        return wide.permute(0, 2, 3, 1)
