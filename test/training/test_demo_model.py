"""The command that makes the demonstration model, with hardly any of everything."""

from pathlib import Path

import numpy as np
import torch
from eomt_ext_training import demo_model

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.config import SCORES
from eomt_ext_core.scenes import OBSTACLE_FAMILIES


def test_the_whole_recipe_runs_and_leaves_a_model(tmp_path: Path) -> None:
    output = tmp_path / "demo.safetensors"
    demo_model.main(["--quick", "--output", str(output), "--cache", str(tmp_path / "scenes")])
    model = load_model(output)
    assert (model.config, model.anomaly_head.config) == (demo_model.MODEL, demo_model.HEAD)
    assert {"head"} < set(model.info["results"]) <= set(SCORES)
    assert model.info["plan"]["head_scenes"] == 8
    network = load_model(tmp_path / "network.safetensors").network.state_dict()
    assert all(torch.equal(network[key], value) for key, value in model.network.state_dict().items())
    frame = AnomalyEngine(model, EngineConfig(device="cpu")).infer(np.zeros((288, 512, 3), np.uint8))
    assert np.isfinite(frame.probability).all()


def test_the_shipped_model_is_of_this_recipe() -> None:
    model = load_model("demo")
    assert (model.config, model.anomaly_head.config) == (demo_model.MODEL, demo_model.HEAD)
    assert set(model.info["held_out_families"]) < set(OBSTACLE_FAMILIES)
    assert {"head"} < set(model.info["results"]) <= set(SCORES)
