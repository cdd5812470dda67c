"""Outlier exposure for the network, which makes its patch features separate unknown things from known classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_training.data.sample import OUTLIER, VOID

_FINER = 4  # the loss is at a quarter of the patch size, to which the features are resized, as in the head
_POS_WEIGHT = 4.0  # outliers are about a hundredth of the pixels


class OutlierProbe(nn.Module):
    """A linear map of the patch features that finds outliers; it shapes the features and is discarded.

    After outlier exposure (Hendrycks et al., ICLR 2019), on the features instead of the classes, which stay those of
    the known world: an outlier takes no part in their loss.

    Args:
        feature_dim: channels of the features.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(feature_dim, 1, 1)

    def forward(self, features: Tensor, semantic: Tensor) -> Tensor:
        """Give the loss of a batch.

        Args:
            features: (B, C, h, w) at patch resolution.
            semantic: (B, H, W) class ids, ``OUTLIER`` or 255 for void, which contributes nothing.

        Returns:
            binary cross-entropy against the fraction of each cell that is an outlier, a scalar.
        """
        size_hw = (_FINER * features.shape[2], _FINER * features.shape[3])
        logits = F.interpolate(self.linear(features.float()), size_hw, mode="bilinear")
        weight = F.adaptive_avg_pool2d((semantic != VOID).float()[:, None], size_hw)
        fraction = F.adaptive_avg_pool2d((semantic == OUTLIER).float()[:, None], size_hw) / weight.clamp(min=1e-6)
        loss = F.binary_cross_entropy_with_logits(
            logits, fraction, weight, reduction="sum", pos_weight=torch.tensor(_POS_WEIGHT, device=logits.device)
        )
        return loss / weight.sum().clamp(min=1.0)
