"""What the parts measure with: a data-centre GPU's sizes and counts, or a few of them on a CPU to see that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, EngineConfig
from eomt_ext_core.bench.variants.models import HEAD, make_model
from eomt_ext_core.config import ModelConfig
from eomt_ext_core.model.eomt_ext import EoMTExt

Size = tuple[int, int]

TINY = "tiny"  # a model to try a run with
_TINY = ModelConfig(
    "vit_small_patch14_reg4_dinov2",
    (64, 64),
    num_queries=6,
    num_classes=5,
    num_blocks=1,
    backbone_overrides={"embed_dim": 32, "depth": 2, "num_heads": 2},
)


@dataclass(frozen=True)
class Setting:
    """Sizes and counts of a run.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        precision: of ours.
        main: model that most parts measure; ``others``: the other sizes.
        smallest: model of the parts that run longest.
        images_hw: heights and widths of the images, the first the most important.
        camera_hw: of one of six cameras.
        frames: of a distribution; ``turns``: of a comparison; ``long_run``: of the watch over memory.
    """

    device: str
    precision: str = "bf16"
    main: str = "base"
    others: tuple[str, ...] = ("small", "large")
    smallest: str = "small"
    images_hw: tuple[Size, ...] = ((1080, 1920), (540, 960))
    camera_hw: Size = (540, 960)
    frames: int = 1000
    turns: int = 50
    long_run: int = 10_000

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def on_gpu(self) -> bool:
        return self.torch_device.type == "cuda"

    @property
    def quick(self) -> bool:
        return self.main == TINY

    def model(self, name: str) -> EoMTExt:
        if name != TINY:
            return make_model(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return EoMTExt(_TINY, HEAD).eval()

    def engine(self, name: str, images: int = 1) -> AnomalyEngine:
        """Make an engine that prepares for no more windows than a part has: each size is captured at the start."""
        return AnomalyEngine(self.model(name), EngineConfig(device=self.device, precision=self.precision), None, images)


def quick(device: str) -> Setting:
    return Setting(device, "fp32", TINY, (), TINY, ((72, 128),), (60, 80), frames=3, turns=1, long_run=3)


@cache
def images(image_hw: Size, count: int = 4) -> list[NDArray[np.uint8]]:
    """Make images of noise: the cost does not depend on what they show."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*image_hw, 3), dtype=np.uint8) for _ in range(count)]
