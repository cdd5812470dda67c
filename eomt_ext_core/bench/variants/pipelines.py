"""The pipelines that are compared, each as one call that marks its stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import windows
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import NETWORK
from eomt_ext_core.bench.variants.literal import LiteralPipeline, autocast_or_exact
from eomt_ext_core.bench.variants.models import make_transformers_network
from eomt_ext_core.bench.variants.staged import StagedEngine
from eomt_ext_core.config import EngineConfig, WindowConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.stages import RESIZE

# Maps an image (H, W, 3) uint8 to its probability (H, W) float32, or to None without scoring.
Run = Callable[[NDArray[np.uint8], StageClock], NDArray[np.float32] | None]


class Pipelines(NamedTuple):
    """A pipeline as it is used (``whole``), and with its stages marked (``staged``) if that changes it."""

    whole: Run
    staged: Run


def make_pipelines(variant: str, model: EoMTExt, device: torch.device) -> Pipelines:
    """Set up a variant.

    Args:
        variant: one of :data:`~eomt_ext_core.bench.config.VARIANTS` or ``WAYS_OF_OURS``.
        model: with an anomaly head; it may be moved or changed.
        device: to run on.
    """
    way, *optimize, precision = variant.split("-")
    if way == "ours":
        config = EngineConfig(device=str(device), precision=precision, optimize=optimize[0] if optimize else "auto")
        engine = AnomalyEngine(model, config, most_images=1)
        return Pipelines(lambda image, _: engine.infer(image).probability, StagedEngine(engine).run)
    bf16 = precision == "bf16"
    if way == "transformers":
        run = _transformers(model, device, bf16)
        return Pipelines(run, run)
    run = LiteralPipeline(model, device, bf16=bf16).run
    return Pipelines(run, run)


def _transformers(model: EoMTExt, device: torch.device, bf16: bool) -> Run:
    """The network by Transformers, with all windows of the frame in one batch."""
    network = make_transformers_network(model).to(device)
    encoder = model.network.encoder.to(device)
    crop_hw = model.config.crop_hw

    @torch.inference_mode()
    def run(image_rgb: NDArray[np.uint8], clock: StageClock) -> None:
        plan = windows.plan(image_rgb.shape[:2], crop_hw, WindowConfig())
        image = torch.from_numpy(image_rgb).to(device).permute(2, 0, 1)
        crops = windows.crop(windows.resize(image, plan), plan)
        clock.mark(RESIZE)
        with autocast_or_exact(device, bf16=bf16):
            network(pixel_values=(crops / 255 - encoder.pixel_mean) / encoder.pixel_std)
        clock.mark(NETWORK)

    return run
