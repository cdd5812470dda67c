"""The pixel-wise anomaly head of EoMT-EXT, literally as described by its reference."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_core.config import HeadConfig
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.scoring.uncertainty import NUM_STATISTICS


class PixelAnomalyHead(nn.Module):
    """An MLP on the concatenation of four statistics and the visual features of each pixel.

    The parameters have the names of the reference implementation's checkpoints: ``feature_proj.0`` (if
    ``config.feature_proj_dim`` is set) and ``mlp.{0,3,6}``.

    Args:
        feature_dim: channels of the visual features.
        config: shape of the head.
    """

    def __init__(self, feature_dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.config = config
        self.feature_proj: nn.Sequential | None = None
        visual_dim = feature_dim
        if config.feature_proj_dim is not None:
            self.feature_proj = nn.Sequential(nn.Conv2d(feature_dim, config.feature_proj_dim, 1), nn.ReLU())
            visual_dim = config.feature_proj_dim
        self.mlp = nn.Sequential(
            nn.Linear(NUM_STATISTICS + visual_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim, config.hidden_dim // 2),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim // 2, 1),
        )

    def forward(self, statistics: Tensor, features: Tensor) -> Tensor:
        """Score every pixel.

        Args:
            statistics: (B, H, W, 4), in the order of :func:`~eomt_ext_core.scoring.uncertainty.statistics`.
            features: (B, feature_dim, h, w), at patch resolution.

        Returns:
            (B, H, W, 1) anomaly logits.
        """
        if self.feature_proj is not None:
            features = self.feature_proj(features)
        size_hw = (statistics.shape[1], statistics.shape[2])
        visual = F.interpolate(features, size_hw, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        return cast(Tensor, self.mlp(torch.cat((statistics, visual), dim=-1)))


@torch.no_grad()
def check_head(head: PixelAnomalyHead) -> None:
    """Check that the logit of a head depends on its input; a constant one would report a clear road forever.

    Args:
        head: of any floating type; does not change.

    Raises:
        CheckpointError: if 256 random inputs have the same logit, as with zero weights or a dead layer.
    """
    generator = torch.Generator().manual_seed(0)
    statistics = torch.rand((1, 16, 16, NUM_STATISTICS), generator=generator)
    features = 3 * torch.randn((1, head.feature_dim, 16, 16), generator=generator)
    lowest, highest = copy.deepcopy(head).float().eval()(statistics, features).aminmax()
    if lowest == highest:
        raise CheckpointError(
            f"its anomaly head must depend on the input, got the logit {lowest:g} for all inputs: its weights are zero "
            "or damaged; use another head, or train it again"
        )
