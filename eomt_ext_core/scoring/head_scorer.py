"""Which implementation of the anomaly head runs on a device: the fused Triton kernel where it can, else PyTorch."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import Tensor

from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored import FactoredHead

BF16_CAPABILITY = (8, 0)  # of GPUs that multiply in bfloat16

_log = logging.getLogger(__name__)


class HeadScorer(Protocol):
    """Anomaly logits from predictions; shapes and types as in :class:`~.factored.FactoredHead`.

    Attributes:
        name: ``triton`` or ``torch``.
        reason: why it is the one in use.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def reason(self) -> str: ...  # noqa: D102

    def __call__(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel of every crop: (B, H, W, 1)."""


def make_head_scorer(head: PixelAnomalyHead, device: torch.device) -> HeadScorer:
    """Choose the fastest implementation that a device can run, and log which one and why.

    The choice is made once, by what is there; a kernel that then fails raises, and nothing takes its place.

    Args:
        head: the trained head, on ``device``.
        device: where the predictions will be.
    """
    obstacle = _obstacle_to_triton(device)
    scorer: HeadScorer
    if obstacle is None:
        from eomt_ext_core.scoring.fused_triton import FusedHead

        scorer = FusedHead(head, reason=f"{torch.cuda.get_device_name(device)} runs Triton kernels")
    else:
        scorer = FactoredHead(head, reason=obstacle)
    _log.info("anomaly head on %s by %s: %s", device, scorer.name, scorer.reason)
    return scorer


def _obstacle_to_triton(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"Triton kernels need a CUDA device, this is {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < BF16_CAPABILITY:
        needed = ".".join(map(str, BF16_CAPABILITY))
        return f"the kernel needs compute capability {needed}, this GPU has {'.'.join(map(str, capability))}"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    return None
