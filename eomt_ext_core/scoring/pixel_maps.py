"""What scoring can say of each pixel beside the anomaly logit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PixelMaps(NamedTuple):
    """Maps of B crops, H×W pixels.

    Attributes:
        logits: (B, H, W, 1) float32 anomaly logits.
        max_prob: (B, H, W) float32, the largest value of the semantic map.
        entropy: (B, H, W) float32, that of the semantic map, in nats.
        class_id: (B, H, W) int32, the known class of that largest value; of equal ones, the first.
    """

    logits: Tensor
    max_prob: Tensor
    entropy: Tensor
    class_id: Tensor

    @classmethod
    def empty(cls, batch: int, size_hw: tuple[int, int], device: torch.device) -> PixelMaps:
        """Room for the maps of ``batch`` crops, not yet written."""
        logits, max_prob, entropy = (
            torch.empty((batch, *size_hw, *last), dtype=torch.float32, device=device) for last in ((1,), (), ())
        )
        return cls(logits, max_prob, entropy, torch.empty((batch, *size_hw), dtype=torch.int32, device=device))
