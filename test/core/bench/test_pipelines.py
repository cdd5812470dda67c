"""Every way of running a frame gives the same probability, so that their times may be compared."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import NETWORK, SCORING, STAGES
from eomt_ext_core.bench.variants import pipelines
from eomt_ext_core.bench.variants.literal import autocast_or_exact
from eomt_ext_core.bench.variants.models import make_transformers_network
from eomt_ext_core.bench.variants.pipelines import make_pipelines
from eomt_ext_core.bench.variants.staged import StagedEngine
from eomt_ext_core.stages import NETWORK_AND_SCORING, OUTPUTS, RESIZE, STITCH

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(1).integers(0, 256, (80, 150, 3), dtype=np.uint8)


@pytest.mark.parametrize("calibration", [None, {"scale": 0.25, "shift": -1.5, "threshold": 0.3}])
def test_the_literal_pipeline_gives_what_the_engine_gives(
    small_model: EoMTExt, calibration: dict[str, float] | None
) -> None:
    small_model.info = {"calibration": calibration}
    expected = AnomalyEngine(small_model, EngineConfig(device="cpu", precision="fp32")).infer(IMAGE).probability
    clock = StageClock(CPU)
    probability = make_pipelines("literal-fp32", small_model, CPU).whole(IMAGE, clock)
    assert probability is not None
    assert probability.std() > 0.01, "a constant probability tests nothing"
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1e-5)
    assert set(clock.durations_s()) == set(STAGES)


def test_under_autocast_it_stays_near(small_model: EoMTExt) -> None:
    exact, rounded = (
        make_pipelines(f"literal-{precision}", small_model, CPU).whole(IMAGE, StageClock(CPU))
        for precision in ("fp32", "bf16")
    )
    assert exact is not None
    assert rounded is not None
    difference = np.abs(exact - rounded)
    assert difference.max() > 0
    assert difference.mean() < 0.05


@pytest.mark.parametrize("calibration", [None, {"scale": 0.25, "shift": -1.5, "threshold": 0.3}])
@pytest.mark.parametrize("variant", ["ours-fp32", "ours-bf16", "ours-none-fp32"])
def test_the_stages_put_together_are_the_engine(
    small_model: EoMTExt, variant: str, calibration: dict[str, float] | None
) -> None:
    small_model.info = {"calibration": calibration}
    ours = make_pipelines(variant, small_model, CPU)
    clock = StageClock(CPU)
    staged = ours.staged(IMAGE, clock)
    whole = ours.whole(IMAGE, StageClock(CPU))
    assert staged is not None
    np.testing.assert_array_equal(staged, whole)
    assert list(clock.durations_s()) == [RESIZE, NETWORK_AND_SCORING, STITCH, OUTPUTS, SCORING]


def test_a_way_of_ours_may_be_asked_for(small_model: EoMTExt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def engine(model: EoMTExt, config: EngineConfig, most_images: int) -> AnomalyEngine:
        asked.append((config.optimize, config.precision))
        assert most_images == 1, "no more windows are prepared than a frame has"
        return AnomalyEngine(model, replace(config, optimize="auto"))

    monkeypatch.setattr(pipelines, "AnomalyEngine", engine)
    for variant in ("ours-bf16", "ours-compile-fp32", "ours-none-bf16"):
        make_pipelines(variant, small_model, CPU)
    assert asked == [("auto", "bf16"), ("compile", "fp32"), ("none", "bf16")]


@pytest.mark.parametrize(("bf16", "allowed"), [(False, False), (True, True)])
def test_single_precision_is_never_tf32(bf16: bool, allowed: bool) -> None:
    with autocast_or_exact(CPU, bf16=bf16):
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.is_autocast_enabled("cpu") is bf16
    assert torch.backends.cudnn.allow_tf32


def test_the_scoring_alone_is_given_what_the_network_gives(
    small_model: EoMTExt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same places of memory too: a copy to others would be counted as scoring."""
    engine = AnomalyEngine(small_model, EngineConfig(device="cpu", precision="bf16"))
    scorer: Any = engine.scorer
    scorer.max_batch = 4
    staged, seen = StagedEngine(engine), []
    head = scorer.head

    def listening(masks: Tensor, classes: Tensor, size_hw: tuple[int, int], features: Tensor) -> Tensor:
        parts = (masks, classes, features)
        seen.append([(part.shape, part.dtype, part.flatten(1).shape, part.stride()[1:]) for part in parts])
        return head(masks, classes, size_hw, features)

    scorer.head = staged._head = listening
    staged.run(IMAGE, StageClock(CPU))
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_transformers_runs_a_network_of_the_same_architecture(small_model: EoMTExt) -> None:
    pytest.importorskip("transformers")
    network = make_transformers_network(small_model)
    ours = sum(parameter.numel() for parameter in small_model.network.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) == ours
    clock = StageClock(CPU)
    assert make_pipelines("transformers-fp32", small_model, CPU).whole(IMAGE, clock) is None
    assert list(clock.durations_s()) == [RESIZE, NETWORK]
