import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from eomt_ext_core import EoMTExt, save_model
from eomt_ext_core.bench import run
from eomt_ext_core.bench.config import NETWORK, STAGES, BenchConfig
from eomt_ext_core.bench.frames import Sample, Turn
from eomt_ext_core.bench.memory import Memory
from eomt_ext_core.errors import ConfigError


@pytest.fixture
def checkpoint(small_model: EoMTExt, tmp_path: Path) -> str:
    save_model(small_model, tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


@pytest.fixture
def threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting processes that import torch takes longer than all that they do here."""
    monkeypatch.setattr(run, "_new_process", lambda: ThreadPoolExecutor(1))
    monkeypatch.setattr(run, "CAMERA_HW", (64, 64))


@pytest.mark.usefixtures("threads_for_processes")
def test_a_whole_run(checkpoint: str, tmp_path: Path) -> None:
    variants = ("literal-fp32", "transformers-fp32", "ours-fp32", "ours-bf16")
    config = BenchConfig(
        checkpoint=checkpoint,
        images_hw=((80, 150), (64, 64)),
        variants=variants,
        repeats=2,
        device="cpu",
        growth_model=checkpoint,
        growth_hw=((64, 64), (100, 200)),
    )
    said: list[str] = []
    result = run.run_bench(config, torch.device("cpu"), "eomt-ext bench", said.append)

    wide, square = result.cases
    assert (wide.num_windows, square.num_windows) == (2, 1)
    assert wide.network_flops == 2 * square.network_flops
    measured = [name for name in variants if name not in result.not_measured]
    assert list(wide.variants) == measured
    assert {"literal-fp32", "ours-fp32", "ours-bf16"} <= set(measured)
    assert said.count(f"{checkpoint}, 150×80: round 2 of 2, ours-fp32") == 1
    for name in measured:
        variant = wide.variants[name]
        assert variant.rounds == 2
        assert variant.memory.peak >= variant.memory.held
        if "transformers" in name:
            assert variant.frame is None
        else:
            # Of so small a network, on a busy machine, the time cannot always be told from that of the scoring.
            untold = {NETWORK} - variant.stages.keys() if "ours" in name else set()
            assert list(variant.stages) == [stage for stage in STAGES if stage not in untold]
            assert variant.frame is not None
            assert 0 < variant.frame.median_s <= variant.frame.p99_s
            rate = (wide.network_flops + wide.scoring_flops) / variant.frame.median_s
            ceiling = result.ceiling_flops_per_s[name.rpartition("-")[2]]
            assert variant.frame_ceiling_fraction == pytest.approx(rate / ceiling)
        if NETWORK in variant.stages:
            rate = wide.network_flops / variant.stages[NETWORK].median_s
            ceiling = result.ceiling_flops_per_s[name.rpartition("-")[2]]
            assert variant.network_ceiling_fraction == pytest.approx(rate / ceiling)
        else:
            assert variant.network_ceiling_fraction is None
    assert wide.variants["literal-fp32"].largest_difference == 0
    assert wide.variants["ours-fp32"].largest_difference == pytest.approx(0, abs=1e-5)
    assert wide.variants["ours-bf16"].largest_difference != 0

    assert result.growth is not None
    assert [point.num_windows for point in result.growth.images] == [1, 8]
    assert [point.num_images for point in result.growth.cameras] == [1, 2, 4, 6, 8]
    result.write(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["command"] == "eomt-ext bench"


def test_inseparable_network_time_is_omitted() -> None:
    def turn(network_s: float) -> Turn:
        stages = {"network": network_s, "scoring": 0.5}
        return Turn([Sample(1.0, stages)] * 3, Memory(1, 2), None)

    known = run._sum_up_variant([turn(0.25)], (100, 10), 1000.0, None)
    assert (known.network_ceiling_fraction, list(known.stages)) == (0.4, ["network", "scoring"])
    for seconds in (0.0, -0.1):
        lost = run._sum_up_variant([turn(seconds)], (100, 10), 1000.0, None)
        assert (lost.network_ceiling_fraction, list(lost.stages)) == (None, ["scoring"])


def test_a_model_without_a_head_is_refused(tiny_model: object, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "headless.safetensors")  # type: ignore[operator]
    config = BenchConfig(checkpoint=str(tmp_path / "headless.safetensors"), device="cpu", growth_model="none")
    with pytest.raises(ConfigError, match=r"a model with an anomaly head, .*headless\.safetensors has none"):
        run.run_bench(config, torch.device("cpu"), "eomt-ext bench")


@pytest.mark.usefixtures("threads_for_processes")
def test_what_is_not_installed_is_said(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    config = BenchConfig(
        checkpoint=checkpoint,
        images_hw=((64, 64),),
        variants=("ours-fp32", "transformers-fp32"),
        repeats=1,
        device="cpu",
        growth_model="none",
    )
    result = run.run_bench(config, torch.device("cpu"), "eomt-ext bench")
    assert result.not_measured == {"transformers-fp32": "transformers is not installed"}
    assert list(result.cases[0].variants) == ["ours-fp32"]
    assert result.cases[0].variants["ours-fp32"].largest_difference is None
    assert result.growth is None
