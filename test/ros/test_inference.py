"""What the node makes of an engine's failures: no ROS in it."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyFrame, ConfigError, EngineConfig, ImageError, InferenceError
from eomt_ext_ros.inference import REGROW_PERIOD_S, RETRY_PERIOD_S, Inference, load_engine
from eomt_ext_ros.node_config import NodeConfig

FRAME = AnomalyFrame(np.zeros((32, 64), np.float32), np.zeros((32, 64), bool))
WIDE = np.zeros((32, 640, 3), np.uint8)  # ten windows of 32×64


class FaultyEngine:
    """Answers, or fails as it is told: a number of windows that fits in memory, and values no image may have."""

    crop_hw, class_names, threshold = (32, 64), (), 0.5

    def __init__(self, batch_windows=16):
        self.config = EngineConfig(device="cpu", batch_windows=batch_windows)
        self.fits, self.poison = 1000, {}
        self.calls, self.freed = [], 0

    def infer_batch(self, images_rgb, *, semantic=False):
        self.calls.append((len(images_rgb), self.config.batch_windows))
        if self.config.batch_windows > self.fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        for image in images_rgb:
            if image[0, 0, 0] in self.poison:
                raise self.poison[image[0, 0, 0]]
        return [FRAME] * len(images_rgb)

    def free_memory(self):
        self.freed += 1

    def describe(self):
        return {"device": "cpu"}


@pytest.fixture
def engine():
    return FaultyEngine()


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def inference(engine, now):
    return Inference(engine, clock=lambda: now[0])


def image(value=0):
    return np.full((32, 64, 3), value, np.uint8)


def test_without_a_failure_there_is_one_call(inference, engine):
    assert inference.infer([image(), image()]) == [FRAME, FRAME]
    assert (engine.calls, engine.freed, inference.error, inference.rest_s) == ([(2, 16)], 0, None, 0.0)
    assert inference.infer([]) == []
    assert len(engine.calls) == 1


@pytest.mark.parametrize("error", [ImageError("too long", "dimensions"), InferenceError("not finite"), KeyError("x")])
def test_an_image_that_fails_does_not_cost_the_others_theirs(inference, engine, error):
    engine.poison = {7: error}
    assert inference.infer([image(), image(7), image()]) == [FRAME, error, FRAME]
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1]
    assert inference.error is (None if isinstance(error, ImageError) else error)
    assert inference.infer([image(7)]) == [error]
    assert inference.rest_s == 0.0
    engine.poison = {}
    assert inference.infer([image(7)]) == [FRAME]
    assert inference.error is None


def test_out_of_memory_the_batch_is_halved_and_the_call_tried_once_more(inference, engine, now):
    engine.fits = 5
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls == [(1, 16), (1, 5)], "half of the ten windows that there were"
    assert (engine.freed, inference.error, inference.rest_s) == (1, None, 0.0)
    assert inference.describe() == {"device": "cpu", "batch_windows": "5 instead of 16, as memory is short"}
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls[2:] == [(1, 5)]
    engine.fits, now[0] = 1000, now[0] + REGROW_PERIOD_S
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls[3:] == [(1, 16)]
    assert inference.describe()["batch_windows"] == "16"


def test_out_of_memory_twice_it_rests_between_attempts_and_recovers_by_itself(inference, engine):
    engine.fits = 0
    for attempt, batch in enumerate([5, 2, 1, 1, 1]):
        (outcome,) = inference.infer([WIDE])
        assert isinstance(outcome, torch.cuda.OutOfMemoryError)
        assert inference.error is outcome
        assert inference.rest_s == RETRY_PERIOD_S
        assert engine.calls[-1] == (1, batch), attempt
        assert len(engine.calls) == 2 * (attempt + 1)
    engine.fits = 1
    assert inference.infer([WIDE]) == [FRAME]
    assert (inference.error, inference.rest_s) == (None, 0.0)


def test_what_the_failed_call_held_is_gone_when_memory_is_freed(engine):
    held = []

    def infer_batch(images_rgb, *, semantic=False):
        activations = np.zeros(3)
        held.append(weakref.ref(activations))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    engine.infer_batch = infer_batch
    gc.collect()
    gc.disable()
    try:
        engine.free_memory = lambda: alive.append([reference() is not None for reference in held])
        alive = []
        Inference(engine).infer([image()])
    finally:
        gc.enable()
    assert alive == [[False], [False, False]]


def test_a_live_change_keeps_the_batch_that_memory_allows(inference, engine):
    engine.fits = 8
    inference.infer([WIDE, WIDE])
    inference.configure(replace(engine.config, batch_windows=12, threshold=0.9))
    assert (engine.config.batch_windows, engine.config.threshold) == (8, 0.9)
    inference.configure(replace(engine.config, batch_windows=4))
    assert engine.config.batch_windows == 4


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_refuses_a_cpu(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cpu")
    with pytest.raises(ConfigError, match="require_cuda needs a GPU, got device"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device)))


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_lets_no_onnxruntime_fall_back_to_a_cpu(device):
    with pytest.raises(ConfigError, match=f"require_cuda with backend onnxruntime needs device cuda, got {device}"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device, backend="onnxruntime")))
