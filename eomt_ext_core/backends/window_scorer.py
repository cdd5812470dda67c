"""The interface between the engine and the backends that run the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from eomt_ext_core.model.metadata import class_names_of as class_names_of

GPU_BATCH = 256
CPU_BATCH = 1  # one window keeps all cores busy, with small activations
SEMANTIC = "semantic"  # requested like a score: the semantic map, a channel for each semantic class
DISTANCE = "distance"  # likewise: how far each pixel is from ordinary driving, before it is read as a score


class WindowScorer(Protocol):
    """A backend that scores windows.

    Attributes:
        crop_hw: size of a window in pixels.
        num_classes: semantic classes, without the no-object class.
        class_names: names of the semantic classes, in order; empty if the checkpoint has none.
        scores: available scores: names of ``config.ALL_SCORES``, ``SEMANTIC`` if it has the semantic map, and
            ``DISTANCE`` if it knows ordinary driving.
        info: metadata of the checkpoint (calibration, class names …); JSON values.
        device: of windows and scores.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``int8`` if linear layers of an exported file are.
        max_batch: most windows in a call.
    """

    crop_hw: tuple[int, int]
    num_classes: int
    class_names: tuple[str, ...]
    scores: tuple[str, ...]
    info: dict[str, Any]
    device: torch.device
    precision: str
    max_batch: int

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows.

        Args:
            crops: (N, 3, h, w) uint8 on ``device``, 1 ≤ N ≤ ``max_batch``.
            scores: names of ``self.scores``, each once.

        Returns:
            (N, K, h, w) float32, in the order of ``scores``: values that may be averaged where windows overlap, that is
            the anomaly logit of ``head``, the score of a baseline before it becomes a probability, and ``num_classes``
            channels for ``SEMANTIC``. Valid until the next call.
        """
        ...

    def describe(self) -> dict[str, str]:
        """Describe the backend to an operator: ``backend``, ``scoring`` …"""
        ...

    def warm_up(self, scores: Sequence[str], batch: int) -> int:
        """Prepare for calls with up to ``batch`` windows, so that the first of them is not slow.

        Returns:
            the most windows, up to ``batch``, that fit into memory at a time, as far as it was tried.
        """
        ...

    def is_warm(self, scores: Sequence[str], batch: int) -> bool:
        """Whether no call with these scores and up to ``batch`` windows has to do what :meth:`warm_up` does."""
        ...

    def free_memory(self) -> None:
        """Free memory that can be allocated again."""
        ...
