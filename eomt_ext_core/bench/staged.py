"""The engine's path of a frame with its stages marked, in the pieces that the engine is made of."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import windows
from eomt_ext_core.backends.device import DTYPES
from eomt_ext_core.backends.window_scorer import WindowScorer
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import NETWORK_AND_SCORING, OUTPUTS, RESIZE, SCORING, STITCH
from eomt_ext_core.config import DEFAULT_THRESHOLD, EngineConfig, WindowConfig
from eomt_ext_core.engine.transfer import CudaTransfer, HostTransfer
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.head_scorer import make_head_scorer


class StagedEngine:
    """What the engine does for one image, each stage marked.

    Network and scoring may be one graph: they are marked together, and the scoring again by itself on predictions of
    the same shape; the network is the rest.

    Args:
        scorer: what the engine runs windows with.
        model: what it scores with; it has an anomaly head.
    """

    def __init__(self, scorer: WindowScorer, model: EoMTExt) -> None:
        if model.anomaly_head is None:
            raise ValueError("stages are those of a model with an anomaly head")
        self._scorer = scorer
        self._transfer = CudaTransfer(scorer.device) if scorer.device.type == "cuda" else HostTransfer()
        self._batch = min(scorer.max_batch, EngineConfig().batch_windows)
        self._head = make_head_scorer(copy.deepcopy(model.anomaly_head).to(scorer.device), scorer.device)
        blank = torch.zeros(1, 3, *scorer.crop_hw)
        with torch.inference_mode():
            self._prediction = [part.to(scorer.device, DTYPES[scorer.precision]) for part in model(blank)]

    @torch.inference_mode()
    def run(self, image_rgb: NDArray[np.uint8], clock: StageClock) -> NDArray[np.float32]:
        """Give the probability of an image, (H, W), and mark the stages."""
        plan = windows.plan(image_rgb.shape[:2], self._scorer.crop_hw, WindowConfig())
        crops = windows.crop(windows.resize(self._transfer.upload(image_rgb), plan), plan)
        clock.mark(RESIZE)
        canvas = windows.Canvas(plan)
        for batch in torch.split(crops, self._batch):
            scored = self._scorer(batch, ("head",))
            clock.mark(NETWORK_AND_SCORING)
            for window in scored:
                canvas.add(window)
            clock.mark(STITCH)
        stitched = windows.to_image_size(canvas.average(), plan)[0]
        clock.mark(STITCH)
        probability = stitched.sigmoid()
        arrays = self._transfer.download([probability, probability > DEFAULT_THRESHOLD])
        clock.mark(OUTPUTS)
        for batch in torch.split(crops, self._batch):
            masks, classes, features = (
                part.expand(len(batch), *part.shape[1:]).contiguous() for part in self._prediction
            )
            clock.skip()
            self._head(masks, classes, self._scorer.crop_hw, features)
            clock.mark(SCORING)
        result: NDArray[np.float32] = arrays[0]
        return result
