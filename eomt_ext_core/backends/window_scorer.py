"""What the engine asks of whatever runs the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from eomt_ext_core.model.metadata import class_names_of as class_names_of

GPU_BATCH = 256
CPU_BATCH = 1  # one window keeps all cores busy, and its activations stay small
SEMANTIC = "semantic"  # asked for beside scores: the semantic map, a channel for each known class
DISTANCE = "distance"  # likewise: how far each pixel is from ordinary driving, before it is read as a score


class WindowScorer(Protocol):
    """Scores windows.

    Attributes:
        crop_hw: size of a window in pixels.
        num_classes: known classes, without the no-object class.
        class_names: of the known classes, in order; empty where the checkpoint does not say.
        scores: what it can give: names out of ``config.ALL_SCORES``, ``SEMANTIC`` where it has the semantic map, and
            ``DISTANCE`` if it knows ordinary driving.
        info: what the checkpoint says of itself (calibration, class names …); JSON values.
        device: where it takes windows and leaves scores.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        max_batch: most windows of a call.
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
            scores: names out of ``self.scores``, each once.

        Returns:
            (N, K, h, w) float32, such that it may be averaged where windows overlap: the anomaly logit of ``head``, the
            score of a baseline before it becomes a probability, ``num_classes`` channels for ``SEMANTIC``; in the order
            of ``scores``. Valid until the next call.
        """
        ...

    def describe(self) -> dict[str, str]:
        """What an operator wants to know of it: ``backend``, ``scoring`` …"""
        ...

    def warm_up(self, scores: Sequence[str], batch: int) -> int:
        """Do what the first call with each number of windows up to ``batch``, beyond one, would be slow for.

        Returns:
            the most windows, up to ``batch``, that fit in memory at a time, as far as that was tried.
        """
        ...

    def free_memory(self) -> None:
        """Give up what can be made anew."""
        ...
