"""The loss of the anomaly head with gradients for the network too, at a quarter of the window's size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.config import check_options, option
from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics
from eomt_ext_training.data.sample import OUTLIER, VOID


@dataclass(frozen=True)
class JointLoss:
    """Weights of the parts of the loss."""

    head: float = option(10.0, "weight of the anomaly head's loss next to that of the classes", minimum=0.0)
    pos_weight: float = option(10.0, "weight of anomalous pixels, that of the head's own training", minimum=0.0)
    typical_px: float = option(400.0, "area of an outlier with pixels of the weight ``pos_weight``", minimum=1.0)
    largest_boost: float = option(4.0, "how much more pixels of smaller outliers weigh at most", minimum=1.0)
    classes_every: int = option(3, "steps between two that teach the classes", minimum=1)

    def __post_init__(self) -> None:
        check_options(self)


def outlier_weights(semantic: Tensor, config: JointLoss) -> Tensor:
    """Weights of pixels, so that small outliers count more: the root of the typical area by their own.

    Args:
        semantic: (B, H, W) uint8 class ids, 254 for outliers.
        config: typical area and largest boost; the weight of a pixel never falls below a half of ``pos_weight``.

    Returns:
        (B, H, W) float32: 0 for pixels that are not outliers.
    """
    rows = []
    for labels in semantic.cpu().numpy():
        _, components, stats, _ = cv2.connectedComponentsWithStats((labels == OUTLIER).astype(np.uint8))
        area = np.maximum(stats[:, cv2.CC_STAT_AREA].astype(np.float32), 1.0)
        weight = config.pos_weight * np.clip(np.sqrt(config.typical_px / area), 0.5, config.largest_boost)
        weight[0] = 0.0
        rows.append(torch.from_numpy(weight.astype(np.float32)[components]))
    return torch.stack(rows).to(semantic.device)


def head_loss(head: PixelAnomalyHead, prediction: Prediction, semantic: Tensor, config: JointLoss) -> Tensor:
    """Binary cross-entropy of the head on the grid of the mask logits.

    The features have gradients, masks and classes do not: those are trained by the labels only.

    Args:
        head: in training mode.
        prediction: of the network, B windows.
        semantic: (B, H, W) uint8 class ids, 254 for outliers, 255 for void, which contributes nothing.
        config: weights.

    Returns:
        a scalar: the mean over all valid pixels, as if each normal one had the weight 1.
    """
    size_hw = (prediction.mask_logits.shape[2], prediction.mask_logits.shape[3])
    masks, classes = prediction.mask_logits.detach().float(), prediction.class_logits.detach().float()
    logits = head(statistics(semantic_map(masks, classes, size_hw)), prediction.features.float())[..., 0]
    positive = F.adaptive_avg_pool2d(outlier_weights(semantic, config), size_hw)
    negative = F.adaptive_avg_pool2d(((semantic != OUTLIER) & (semantic != VOID)).float(), size_hw)
    valid = F.adaptive_avg_pool2d((semantic != VOID).float(), size_hw)
    loss = positive * F.softplus(-logits) + negative * F.softplus(logits)
    return loss.sum() / valid.sum().clamp(min=1.0)
