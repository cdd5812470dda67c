"""What the node makes of an engine's failures: no ROS in it."""

import gc
import weakref
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyFrame, ConfigError, EngineConfig, ImageError, InferenceError
from eomt_ext_ros.camera_queue import CameraQueue
from eomt_ext_ros.inference import (
    REGROW_PERIOD_S,
    RETRY_PERIOD_S,
    Inference,
    is_out_of_memory,
    is_short_of_memory,
    load_engine,
)
from eomt_ext_ros.node_config import NodeConfig

FRAME = AnomalyFrame(np.zeros((32, 64), np.float32), np.zeros((32, 64), bool))
WIDE = np.zeros((32, 640, 3), np.uint8)  # ten windows of 32×64


class FaultyEngine:
    """Answers, or fails as it is told: a number of windows that fits in memory, and values no image may have."""

    crop_hw, class_names, threshold, has_semantic = (32, 64), (), 0.5, True

    def __init__(self, batch_windows=16):
        self.config = EngineConfig(device="cpu", batch_windows=batch_windows)
        self.fits, self.images_fit, self.poison = 1000, 1000, {}
        self.calls, self.freed = [], 0

    def threshold_of(self, config):
        return self.threshold

    def infer_batch(self, images_rgb, *, semantic=False, config=None):
        batch_windows = (config or self.config).batch_windows
        self.calls.append((len(images_rgb), batch_windows))
        if batch_windows > self.fits or len(images_rgb) > self.images_fit:
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
    assert (engine.calls, engine.freed, inference.error) == ([(2, 16)], 0, None)
    assert inference.infer([]) == []
    assert len(engine.calls) == 1


@pytest.mark.parametrize("error", [ImageError("too long", "dimensions"), InferenceError("not finite"), KeyError("x")])
def test_an_image_that_fails_does_not_cost_the_others_theirs(inference, engine, error):
    engine.poison = {7: error}
    assert inference.infer([image(), image(7), image()]) == [FRAME, error, FRAME]
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1]
    assert inference.error is (None if isinstance(error, ImageError) else error)
    assert inference.infer([image(7)]) == [error]
    engine.poison = {}
    assert inference.infer([image(7)]) == [FRAME]
    assert inference.error is None


def test_out_of_memory_the_batch_is_halved_and_the_call_tried_once_more(inference, engine, now):
    engine.fits = 5
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls == [(1, 16), (1, 5)], "half of the ten windows that there were"
    assert (engine.freed, inference.error) == (1, None)
    assert inference.describe() == {"device": "cpu", "batch_windows": "5 instead of 16, as memory is short"}
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls[2:] == [(1, 5)]
    engine.fits, now[0] = 1000, now[0] + REGROW_PERIOD_S
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls[3:] == [(1, 10)], "doubled"
    now[0] += REGROW_PERIOD_S
    assert inference.infer([WIDE]) == [FRAME]
    assert engine.calls[4:] == [(1, 16)]
    assert inference.describe()["batch_windows"] == "16"


def test_out_of_memory_it_goes_on_trying_with_less_and_recovers_by_itself(inference, engine, now):
    engine.fits = 0
    for attempt, batch in enumerate([5, 2, 1, 1, 1]):
        (outcome,) = inference.infer([WIDE])
        assert isinstance(outcome, torch.cuda.OutOfMemoryError)
        assert inference.error is outcome
        assert engine.calls[-1] == (1, batch), attempt
        assert len(engine.calls) == 2 * (attempt + 1)
        now[0] += RETRY_PERIOD_S
    engine.fits = 1
    assert inference.infer([WIDE]) == [FRAME]
    assert inference.error is None


def test_where_memory_stays_short_trying_more_costs_no_image_its_answer(inference, engine, now):
    engine.fits = 2
    images, seen = [WIDE, WIDE], []
    for _ in range(3):
        inference.infer(images)
        now[0] += RETRY_PERIOD_S
    for _ in range(600):
        assert inference.infer(images) == [FRAME] * 2
        seen.append(inference.describe()["batch_windows"])
        now[0] += RETRY_PERIOD_S
    assert set(seen) == {"2 instead of 16, as memory is short, one image at a time"}
    assert engine.freed < 20


@pytest.fixture
def no_collector():
    """What is gone went with its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("link", ["alone", "cause", "context"])
def test_what_the_failed_call_held_is_gone_when_memory_is_freed_and_the_call_tried_again(engine, link):
    held, alive = [], []

    def allocate():
        activations = np.zeros(3)
        held.append(weakref.ref(activations))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def infer_batch(images_rgb, *, semantic=False, config=None):
        note()
        graph = np.zeros(3)
        held.append(weakref.ref(graph))
        if link == "alone":
            allocate()
        try:
            allocate()
        except RuntimeError as error:
            if link == "context":
                raise MemoryError("the capture ended")  # noqa: B904
            raise MemoryError("the capture ended") from error

    def note():
        alive.append([reference() is not None for reference in held])

    engine.infer_batch, engine.free_memory = infer_batch, note
    Inference(engine).infer([image()])
    assert alive == [[], [False] * 2, [False] * 2, [False] * 4], "a call, freed, the next call, freed"


@pytest.mark.usefixtures("no_collector")
def test_frames_of_a_batch_that_memory_was_short_for_are_gone_before_it_is_tried_again(engine):
    made, alive = [], []

    def infer_batch(images_rgb, *, semantic=False, config=None):
        alive.append([reference() is not None for reference in made])
        if len(images_rgb) > 1:
            raise KeyError("of one image, so that each is tried alone")
        if images_rgb[0][0, 0, 0] == 7:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        probability = np.zeros((32, 64), np.float32)
        made.append(weakref.ref(probability))
        return [AnomalyFrame(probability, probability > 0.5)]

    engine.infer_batch = infer_batch
    Inference(engine).infer([image(), image(7)])
    assert alive[:4] == [[], [], [True], [False]]


def test_images_that_only_fit_alone_are_tried_one_at_a_time(inference, engine, now):
    engine.images_fit = 1
    images = [image(), image(1), image(2)]
    assert inference.infer(images) == [FRAME] * 3
    assert engine.calls == [(3, 16), (3, 1), *[(1, 1)] * 3]
    assert inference.error is None
    assert inference.describe()["batch_windows"] == "1 instead of 16, as memory is short, one image at a time"
    before = len(engine.calls)
    assert inference.infer(images) == [FRAME] * 3
    assert engine.calls[before:] == [(1, 1)] * 3, "nothing is tried that is known to fail"
    engine.images_fit = 1000
    for batch in (2, 4, 8):
        now[0] += REGROW_PERIOD_S
        assert inference.infer(images) == [FRAME] * 3
        assert engine.calls[-1] == (1, batch)
    now[0] += REGROW_PERIOD_S
    assert inference.infer(images) == [FRAME] * 3
    assert engine.calls[-1] == (3, 16)
    assert inference.describe()["batch_windows"] == "16"


@pytest.mark.parametrize("batch_windows", [1, 16])
@pytest.mark.parametrize("max_batch", [0, 1, 2])
@pytest.mark.parametrize("call_s", [0.03, 3.0])
def test_an_image_that_never_fits_costs_the_others_no_answer(inference, engine, now, batch_windows, max_batch, call_s):
    engine.config = replace(engine.config, batch_windows=batch_windows)
    engine.poison = {7: torch.cuda.OutOfMemoryError("CUDA out of memory")}
    images = {"front": WIDE, "bad": WIDE + np.uint8(7), "left": image()}
    queue, turns, until_s = CameraQueue(max_batch), Counter(), now[0] + 10 * REGROW_PERIOD_S
    while now[0] < until_s:
        for camera, each in images.items():
            queue.put(camera, each)
        now[0] = max(now[0], queue.due_s())
        batch = queue.take(now[0])
        before = len(engine.calls)
        for camera, outcome in zip(batch, inference.infer(list(batch.values())), strict=True):
            turns[camera] += 1
            assert is_short_of_memory(outcome) if camera == "bad" else outcome is FRAME
        now[0] += call_s * (len(engine.calls) - before)
        for camera in batch:
            if camera == "bad":
                queue.rest(camera, now[0] + RETRY_PERIOD_S)
    assert abs(turns["front"] - turns["left"]) <= 1
    assert 0 < turns["bad"] <= 10 * REGROW_PERIOD_S / RETRY_PERIOD_S
    if call_s < RETRY_PERIOD_S:
        assert engine.freed < 25, "which costs the others their CUDA graphs"
        assert len(engine.calls) - sum(turns.values()) < 60, "attempts that were of no use"


def test_where_none_fits_even_alone_memory_is_freed_each_time(inference, engine, now):
    engine.config, engine.images_fit = replace(engine.config, batch_windows=1), 1
    assert inference.infer([image(), image()]) == [FRAME] * 2
    engine.fits, engine.freed = 0, 0
    for times in (1, 2, 3):
        now[0] += RETRY_PERIOD_S
        assert all(map(is_short_of_memory, inference.infer([image(), image()])))
        assert engine.freed == 2 * times, "before the second attempt, and after it"


def test_an_image_of_too_many_windows_is_refused_before_the_batch(inference, engine):
    sliver = np.zeros((1, 2_000_000, 3), np.uint8)
    first, second, third = inference.infer([image(), sliver, image()])
    assert first is third is FRAME
    assert isinstance(second, ImageError)
    assert "needs 1000000" in str(second)
    assert engine.calls == [(2, 16)]
    (alone,) = inference.infer([sliver])
    assert isinstance(alone, ImageError)
    assert (len(engine.calls), inference.error) == (1, None)


def opencv_error(border_px):
    try:
        cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), border_px, 0, border_px, 0, cv2.BORDER_CONSTANT)
    except cv2.error as error:
        return error
    raise AssertionError("OpenCV has taken it")


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (opencv_error(border_px=2_000_000_000), True),  # more than there are addresses
        (opencv_error(border_px=-1), False),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError("onnxruntime"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (InferenceError("the file says: out of memory"), False),
    ],
)
def test_it_is_known_when_memory_is_short(inference, engine, error, is_short):
    assert is_out_of_memory(error) is is_short
    engine.poison = {7: error}
    assert inference.infer([image(7)]) == [error]
    assert bool(engine.freed) is is_short


def test_under_another_configuration_the_batch_is_still_what_memory_allows(inference, engine):
    engine.fits, configured = 8, engine.config
    inference.infer([WIDE, WIDE])
    assert engine.config is configured, "which is the operator's"
    for batch_windows, expected in ((12, 8), (4, 4), (16, 8)):
        inference.infer([WIDE], replace(engine.config, batch_windows=batch_windows))
        assert engine.calls[-1] == (1, expected)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_refuses_a_cpu(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cpu")
    with pytest.raises(ConfigError, match="require_cuda needs a GPU, got device"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device)))


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_require_cuda_lets_no_onnxruntime_fall_back_to_a_cpu(device):
    with pytest.raises(ConfigError, match=f"require_cuda with backend onnxruntime needs device cuda, got {device}"):
        load_engine(NodeConfig(require_cuda=True, engine=EngineConfig(device=device, backend="onnxruntime")))
