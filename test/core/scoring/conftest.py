import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from eomt_ext_core.config import HeadConfig
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics


@dataclass(frozen=True)
class ScoringCase:
    """A head, predictions for it, and the logits that it gives for them as the reference writes it."""

    head: PixelAnomalyHead
    inputs: tuple[Tensor, Tensor, tuple[int, int], Tensor]
    logits: Tensor


@pytest.fixture(scope="session")
def scoring_case(randomise: Callable[[nn.Module, int], None]) -> Callable[..., ScoringCase]:
    def make(
        size_hw: tuple[int, int],
        mask_hw: tuple[int, int],
        patch_hw: tuple[int, int],
        *,
        batch: int = 1,
        queries: int = 7,
        classes: int = 6,
        hidden: int = 64,
        projected: int | None = 8,
        dtype: torch.dtype = torch.float32,
    ) -> ScoringCase:
        head = PixelAnomalyHead(24, HeadConfig(hidden, 0.3, projected)).eval()
        randomise(head, 5)
        generator = torch.Generator().manual_seed(3)
        # Most queries are elsewhere, so that a pixel's probabilities add up to little more than 1.
        masks = 6 * torch.randn(batch, queries, *mask_hw, generator=generator) - 2 * math.log(queries)
        scores = (4 * torch.randn(batch, queries, classes + 1, generator=generator)).to(dtype)
        features = torch.randn(batch, 24, *patch_hw, generator=generator).to(dtype)
        return literal(head, (masks.to(dtype), scores, size_hw, features))

    return make


@pytest.fixture(scope="session")
def literal_case() -> Callable[..., ScoringCase]:
    return literal


@torch.no_grad()
def literal(head: PixelAnomalyHead, inputs: tuple[Tensor, Tensor, tuple[int, int], Tensor]) -> ScoringCase:
    masks, scores, size_hw, features = inputs
    stacked = statistics(semantic_map(masks.float(), scores.float(), size_hw))
    return ScoringCase(head, inputs, head(stacked, features.float()))
