"""The loss of an EoMT on semantic classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.model.eomt import Prediction
from eomt_ext_training.data.sample import OUTLIER


@dataclass(frozen=True)
class NetworkLossWeights:
    """Weights of the terms, those of Mask2Former (Cheng et al. 2022), which EoMT takes over."""

    mask: float = 5.0
    dice: float = 5.0
    classes: float = 2.0
    no_object: float = 0.1


def network_loss(prediction: Prediction, semantic: Tensor, weights: NetworkLossWeights) -> Tensor:
    """Mask and class loss with query q bound to class q.

    The fixed assignment ("fixed matching" in MaskFormer, Cheng et al. 2021) converges in a fraction of the steps that
    bipartite matching needs, and semantic segmentation needs no more than a query for each class.

    Args:
        prediction: of a network with as many queries as classes.
        semantic: (B, H, W) integer class ids; outliers and 255, void, contribute nothing.
        weights: of the terms.

    Returns:
        a scalar.

    Raises:
        ValueError: if queries and classes differ in number.
    """
    num_queries, num_classes = prediction.mask_logits.shape[1], prediction.class_logits.shape[2] - 1
    if num_queries != num_classes:
        raise ValueError(f"fixed matching needs as many queries as classes, got {num_queries} and {num_classes}")
    size_hw = (prediction.mask_logits.shape[2], prediction.mask_logits.shape[3])
    valid = (semantic < OUTLIER)[:, None]
    ids = torch.arange(num_classes, dtype=semantic.dtype, device=semantic.device)
    coverage = F.adaptive_avg_pool2d((semantic[:, None] == ids[:, None, None]).float(), size_hw)
    weight = F.adaptive_avg_pool2d(valid.float(), size_hw)
    target = coverage / weight.clamp(min=1e-6)

    logits = prediction.mask_logits.float()
    present = coverage.sum(dim=(2, 3)) > 0
    pixel_loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    mask_loss = (pixel_loss.sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1.0))[present].mean()
    probs = logits.sigmoid() * weight
    overlap = (probs * target).sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 1) / (probs.sum(dim=(2, 3)) + (target * weight).sum(dim=(2, 3)) + 1)

    own_class = torch.arange(num_classes, device=logits.device)
    class_target = torch.where(present, own_class, num_classes)
    class_weight = logits.new_ones(num_classes + 1)
    class_weight[-1] = weights.no_object
    class_loss = F.cross_entropy(prediction.class_logits.float().transpose(1, 2), class_target, weight=class_weight)
    return weights.mask * mask_loss + weights.dice * dice[present].mean() + weights.classes * class_loss
