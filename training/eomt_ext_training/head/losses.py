"""The loss of the anomaly head: binary cross-entropy, weighted for rare anomalies, without void pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_training.data.sample import ANOMALOUS, VOID


def pixel_losses(logits: Tensor, labels: Tensor, pos_weight: float) -> Tensor:
    """Binary cross-entropy of each pixel.

    Args:
        logits: any shape.
        labels: the same shape, 0 normal, 1 anomalous, 255 void.
        pos_weight: weight of anomalous pixels.

    Returns:
        the same shape; exactly 0, with a gradient of exactly 0, for void pixels.
    """
    void = labels == VOID
    losses = F.binary_cross_entropy_with_logits(
        logits.masked_fill(void, 0.0),
        (labels == ANOMALOUS).to(logits.dtype),
        pos_weight=logits.new_tensor(pos_weight),
        reduction="none",
    )
    return losses.masked_fill(void, 0.0)


def count_valid(labels: Tensor) -> Tensor:
    """Count the pixels that are not void: a float64 scalar, exact for any batch."""
    return (labels != VOID).sum(dtype=torch.float64)


def anomaly_loss(logits: Tensor, labels: Tensor, pos_weight: float) -> Tensor:
    """Average over the pixels that are not void; 0 if there are none.

    Arguments as those of :func:`pixel_losses`; returns a scalar.

    >>> anomaly_loss(torch.tensor([0.0, 100.0]), torch.tensor([0, 255]), pos_weight=10.0)  # log 2
    tensor(0.6931)
    """
    return pixel_losses(logits, labels, pos_weight).sum() / count_valid(labels).clamp(min=1.0).to(logits.dtype)
