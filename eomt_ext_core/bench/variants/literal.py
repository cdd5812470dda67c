"""The literal pipeline of EoMT-EXT's document, to which all faster ones are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import windows
from eomt_ext_core.backends.cudnn import cudnn_settings
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import NETWORK, SCORING
from eomt_ext_core.config import DEFAULT_THRESHOLD, WindowConfig
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.calibration import LogitCalibration
from eomt_ext_core.stages import OUTPUTS, RESIZE, STITCH


class LiteralPipeline:
    """Eager, one window at a time: features resized to every pixel and concatenated, two channels stitched, softmax.

    Args:
        model: with an anomaly head.
        device: to run on.
        bf16: run the whole of it under bf16 autocast; else it is float32.
    """

    def __init__(self, model: EoMTExt, device: torch.device, *, bf16: bool) -> None:
        self._model = model.to(device)
        self._device = device
        self._bf16 = bf16
        self._calibration = LogitCalibration.of(model.info)

    @torch.inference_mode()
    def run(self, image_rgb: NDArray[np.uint8], clock: StageClock) -> NDArray[np.float32]:
        """Compute probability and mask of an image, (H, W) each, and mark the stages; returns the probability."""
        crop_hw = self._model.config.crop_hw
        plan = windows.plan(image_rgb.shape[:2], crop_hw, WindowConfig())
        image = torch.from_numpy(image_rgb).to(self._device).permute(2, 0, 1)
        crops = windows.crop(windows.resize(image, plan), plan)
        clock.mark(RESIZE)
        scored = []
        with autocast_or_exact(self._device, bf16=self._bf16):
            for crop in torch.split(crops, 1):
                masks, classes, features = self._model(crop / 255)
                clock.mark(NETWORK)
                logits = self._model.compute_anomaly_score(masks, classes, crop_hw, features)
                scored.append(windows.to_two_channels(logits.permute(0, 3, 1, 2)))
                clock.mark(SCORING)
        stitched = windows.to_image_size(windows.stitch(torch.cat(scored).float(), plan), plan)
        if self._calibration is not None:
            stitched[1].mul_(self._calibration.scale).add_(self._calibration.shift)
        clock.mark(STITCH)
        probability: NDArray[np.float32] = stitched.softmax(dim=0)[1].cpu().numpy()
        np.greater(probability, DEFAULT_THRESHOLD)
        clock.mark(OUTPUTS)
        return probability


@contextmanager
def autocast_or_exact(device: torch.device, *, bf16: bool) -> Iterator[None]:
    """Compute with bf16 autocast, or in true float32, which is not torch's default for convolutions on a GPU."""
    with (
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        cudnn_settings(**{} if bf16 else {"allow_tf32": False}),
    ):
        yield
