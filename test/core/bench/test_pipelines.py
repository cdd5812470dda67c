"""Every way of running a frame gives the same probability, so that their times may be compared."""

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import NETWORK, NETWORK_AND_SCORING, OUTPUTS, RESIZE, SCORING, STAGES, STITCH
from eomt_ext_core.bench.models import make_transformers_network
from eomt_ext_core.bench.pipelines import make_pipelines

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(1).integers(0, 256, (80, 150, 3), dtype=np.uint8)


def test_the_literal_pipeline_gives_what_the_engine_gives(small_model: EoMTExt) -> None:
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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_stages_put_together_are_the_engine(small_model: EoMTExt, precision: str) -> None:
    pipelines = make_pipelines(f"ours-{precision}", small_model, CPU)
    clock = StageClock(CPU)
    staged = pipelines.staged(IMAGE, clock)
    whole = pipelines.whole(IMAGE, StageClock(CPU))
    assert staged is not None
    np.testing.assert_array_equal(staged, whole)
    assert list(clock.durations_s()) == [RESIZE, NETWORK_AND_SCORING, STITCH, OUTPUTS, SCORING]


def test_transformers_runs_a_network_of_the_same_architecture(small_model: EoMTExt) -> None:
    pytest.importorskip("transformers")
    network = make_transformers_network(small_model)
    ours = sum(parameter.numel() for parameter in small_model.network.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) == ours
    clock = StageClock(CPU)
    assert make_pipelines("transformers-fp32", small_model, CPU).whole(IMAGE, clock) is None
    assert list(clock.durations_s()) == [RESIZE, NETWORK]
