"""Choice of the anomaly head's implementation: the fused Triton kernel if the device supports it, else PyTorch."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor

from eomt_ext_core.kernels.choice import obstacle_to_triton
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored import FactoredHead

_log = logging.getLogger(__name__)


class HeadScorer(Protocol):
    """Compute anomaly logits from predictions, with the shapes and types of :class:`~.factored.FactoredHead`.

    Attributes:
        name: ``triton`` or ``torch``.
        reason: reason for the choice of this implementation.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def reason(self) -> str: ...  # noqa: D102

    def __call__(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel of every window: (B, H, W, 1)."""


def make_head_scorer(head: PixelAnomalyHead, device: torch.device) -> HeadScorer:
    """Choose the fastest implementation for a device, and log the choice and its reason.

    The choice is made once. A kernel that fails later raises its error; there is no silent fallback.

    Args:
        head: the trained head, on ``device``.
        device: of the predictions.
    """
    obstacle = obstacle_to_triton(device)
    scorer: HeadScorer
    if obstacle is None:
        from eomt_ext_core.scoring.fused_triton import FusedHead

        scorer = FusedHead(head, reason=f"{torch.cuda.get_device_name(device)} runs Triton kernels")
    else:
        scorer = FactoredHead(head, reason=obstacle)
    _log.info("anomaly head on %s by %s: %s", device, scorer.name, scorer.reason)
    return scorer
