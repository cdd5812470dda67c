"""How the node comes by its engine: no ROS in it."""

import pytest
import torch

from eomt_ext_core import AnomalyEngine, ConfigError, EngineConfig
from eomt_ext_core.config import ObstacleConfig
from eomt_ext_ros.inference.engine import is_warm, load_engine, warm_up
from eomt_ext_ros.parameters.node_config import NodeConfig


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_refuses_a_cpu(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cpu")
    with pytest.raises(ConfigError, match="require_cuda needs a GPU, got device"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device)))


def test_require_cuda_is_not_for_openvino():
    with pytest.raises(ConfigError, match=r"got openvino.* or set require_cuda to false"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(backend="openvino")))


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_lets_no_onnxruntime_fall_back_to_a_cpu(device):
    with pytest.raises(ConfigError, match=f"needs device cuda, got {device}, .*: set device to cuda"):
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


DRIVABLE = NodeConfig(engine=EngineConfig(device="cpu"), obstacles=ObstacleConfig(region="drivable"))


class ShortEngine:
    """Captures what it is warmed up for; the first time that this is with semantic classes, it loses the rest."""

    has_semantic = True

    def __init__(self):
        self.warm, self.warmed, self.error = {False}, [], None

    def is_warm(self, config, *, semantic=False):
        return semantic in self.warm

    def prepare(self, images_hw, *, semantic, config):
        self.prepared = (images_hw, semantic)

    def warm_up(self, *, semantic=False, config=None):
        if self.error is not None:
            raise self.error
        if semantic and not self.warmed:
            self.warm.clear()
        self.warmed.append(semantic)
        self.warm.add(semantic)


@pytest.fixture
def short():
    return ShortEngine()


def test_what_a_warm_up_has_freed_is_warmed_up_again(short, monkeypatch):
    monkeypatch.setattr(AnomalyEngine, "load", lambda *args, **kwargs: short)
    assert load_engine(DRIVABLE) is short
    assert short.warmed == [True, False]
    assert is_warm(short, DRIVABLE)


def test_a_region_that_is_set_later_is_warmed_up_beside_the_rest(short):
    assert not is_warm(short, DRIVABLE)
    warm_up(short, DRIVABLE)
    assert short.warmed == [True, False]
    assert is_warm(short, DRIVABLE)
    warm_up(short, DRIVABLE)
    assert short.warmed == [True, False], "nothing is left to do"


def test_semantic_classes_that_images_want_are_warmed_up_beside_the_rest(short):
    plain = NodeConfig(engine=EngineConfig(device="cpu"))
    assert is_warm(short, plain)
    assert not is_warm(short, plain, semantic=True)
    warm_up(short, plain, semantic=True, images_hw=((32, 64),))
    assert short.warmed == [True, False]
    assert is_warm(short, plain, semantic=True)
    assert short.prepared == (((32, 64),), True)
    short.has_semantic = False
    short.warm = {False}
    assert is_warm(short, plain, semantic=True), "there is nothing to warm up"


def test_a_failed_warm_up_is_logged(short, caplog):
    short.error = RuntimeError("CUDA error: unspecified launch failure")
    warm_up(short, DRIVABLE)
    assert "could not be warmed up" in caplog.text
    assert "unspecified launch failure" in caplog.text
