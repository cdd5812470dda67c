"""The engine's path of a frame with its stages marked, and its scoring measured again separately."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import windows
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import SCORING
from eomt_ext_core.engine import AnomalyEngine

# Consecutive calls, so that a GPU always has the next one queued, as in a graph.
_CALLS = {"cpu": 1, "cuda": 20}


class StagedEngine:
    """Run the engine on one image, with each stage marked.

    Network and scoring may be one graph: they are marked together, and the scoring again by itself on predictions of
    the same shape; the network is the rest.

    Args:
        engine: by torch, of a model with an anomaly head.
    """

    def __init__(self, engine: AnomalyEngine) -> None:
        scorer = engine.scorer
        if not isinstance(scorer, TorchWindowScorer) or scorer.head is None:
            raise ValueError("stages need a model in torch with an anomaly head")
        self._engine, self._scorer, self._head = engine, scorer, scorer.head
        blank = torch.zeros((1, 3, *scorer.crop_hw), dtype=torch.uint8, device=scorer.device)
        self._prediction = scorer.predict(blank)

    def run(self, image_rgb: NDArray[np.uint8], clock: StageClock) -> NDArray[np.float32]:
        """Compute the probability of an image, (H, W), and mark the stages."""
        with self._engine.marking(clock.mark):
            frame = self._engine.infer(image_rgb)
        self._score_alone(image_rgb.shape[:2], clock)
        return frame.probability

    @torch.inference_mode()
    def _score_alone(self, image_hw: tuple[int, int], clock: StageClock) -> None:
        config, crop_hw = self._engine.config, self._scorer.crop_hw
        left = windows.plan(image_hw, crop_hw, config.windows).num_windows
        calls = _CALLS[self._scorer.device.type]
        while left:
            count = min(left, config.batch_windows, self._scorer.max_batch)
            masks, classes, features = (torch.cat([part] * count) for part in self._prediction)
            masks, features = (part.contiguous(memory_format=torch.channels_last) for part in (masks, features))
            clock.skip()
            for _ in range(calls):
                self._head(masks, classes, crop_hw, features)
            clock.mark(SCORING, calls)
            left -= count
