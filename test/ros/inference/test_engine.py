"""How the node comes by its engine: no ROS in it."""

import pytest
import torch

from eomt_ext_core import AnomalyEngine, ConfigError, EngineConfig
from eomt_ext_core.config import ObstacleConfig
from eomt_ext_ros.inference.engine import load_engine
from eomt_ext_ros.parameters.node_config import NodeConfig


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_refuses_a_cpu(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cpu")
    with pytest.raises(ConfigError, match="require_cuda needs a GPU, got device"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device)))


def test_require_cuda_is_not_for_openvino():
    with pytest.raises(ConfigError, match="require_cuda needs another backend than openvino"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(backend="openvino")))


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_lets_no_onnxruntime_fall_back_to_a_cpu(device):
    with pytest.raises(ConfigError, match=f"require_cuda with backend onnxruntime needs device cuda, got {device}"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device, backend="onnxruntime")))


@pytest.mark.parametrize("region", ["everywhere", "drivable"])
def test_what_the_region_needs_is_warmed_up(region, monkeypatch):
    warmed, warm_up = [], AnomalyEngine.warm_up
    monkeypatch.setattr(
        AnomalyEngine,
        "warm_up",
        lambda self, *, semantic=False: warmed.append(semantic) or warm_up(self, semantic=semantic),
    )
    engine = load_engine(NodeConfig(engine=EngineConfig(device="cpu"), obstacles=ObstacleConfig(region=region)))
    assert engine.has_semantic
    assert warmed == ([False, True] if region == "drivable" else [False])
