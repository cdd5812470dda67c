"""An engine that knows how many images come at a time prepares for no more windows than they have."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt, WindowConfig
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer

CPU = EngineConfig(device="cpu", precision="fp32", threshold=0.5)


class Listening:
    """A scorer of the model, as on a GPU: it takes many windows and hears what it is to prepare."""

    def __init__(self, model: EoMTExt) -> None:
        self._scorer = TorchWindowScorer(model, torch.device("cpu"))
        self.max_batch, self.prepared, self.batches = 256, list[int](), list[int]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._scorer, name)

    def __call__(self, crops: Tensor, scores: tuple[str, ...]) -> Tensor:
        self.batches.append(len(crops))
        return self._scorer(crops, scores)

    def warm_up(self, scores: tuple[str, ...], batch: int) -> int:
        self.prepared.append(batch)
        return batch


@pytest.mark.parametrize(
    ("mode", "images", "expected"),
    [("eomt", 1, 2), ("fovea", 1, 3), ("eomt", 6, 12), ("eomt", 100, 16), ("grid", 1, 16), ("eomt", None, 16)],
)
def test_no_more_windows_are_prepared_than_the_images_have(
    tiny_model: Callable[..., EoMTExt], mode: str, images: int | None, expected: int
) -> None:
    scorer = Listening(tiny_model())
    config = replace(CPU, score="msp", windows=WindowConfig(mode=mode))
    engine = AnomalyEngine(scorer, config, most_images=images)  # type: ignore[arg-type]
    assert scorer.prepared == [expected]
    assert engine.batch_windows_of(config) == expected


def test_no_batch_is_larger_than_what_was_prepared(tiny_model: Callable[..., EoMTExt]) -> None:
    scorer = Listening(tiny_model())
    config = replace(CPU, score="msp")
    engine = AnomalyEngine(scorer, config, most_images=1)  # type: ignore[arg-type]
    panorama = np.random.default_rng(0).integers(0, 256, (64, 480, 3), dtype=np.uint8)
    scorer.batches.clear()
    probability = engine.infer(panorama).probability
    assert scorer.batches == [2, 2, 1]
    expected = AnomalyEngine(tiny_model(), config).infer(panorama).probability
    np.testing.assert_allclose(probability, expected, atol=1e-6)
