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


def infer(inference, images_rgb, *args):
    """What becomes of the images of as many cameras, ``0``, ``1`` …"""
    return list(inference.infer({str(camera): each for camera, each in enumerate(images_rgb)}, *args).values())


def image(value=0):
    return np.full((32, 64, 3), value, np.uint8)


def test_without_a_failure_there_is_one_call(inference, engine):
    assert infer(inference, [image(), image()]) == [FRAME, FRAME]
    assert (engine.calls, engine.freed, inference.error) == ([(2, 16)], 0, None)
    assert infer(inference, []) == []
    assert len(engine.calls) == 1


@pytest.mark.parametrize("error", [ImageError("too long", "dimensions"), InferenceError("not finite"), KeyError("x")])
def test_an_image_that_fails_does_not_cost_the_others_theirs(inference, engine, error):
    engine.poison = {7: error}
    assert infer(inference, [image(), image(7), image()]) == [FRAME, error, FRAME]
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1]
    assert inference.error is (None if isinstance(error, ImageError) else error)
    assert inference.infer({"1": image(7)}) == {"1": error}
    engine.poison = {}
    assert inference.infer({"1": image(7)}) == {"1": FRAME}
    assert inference.error is None


def test_out_of_memory_the_batch_is_halved_and_the_call_tried_once_more(inference, engine, now):
    engine.fits = 5
    assert inference.infer({"": WIDE}) == {"": FRAME}
    assert engine.calls == [(1, 16), (1, 5)], "half of the ten windows that there were"
    assert (engine.freed, inference.error) == (1, None)
    assert inference.describe() == {"device": "cpu", "batch_windows": "16, but as memory is short 5"}
    assert inference.infer({"": WIDE}) == {"": FRAME}
    assert engine.calls[2:] == [(1, 5)]
    engine.fits = 1000
    for expected in (10, 16, 16):
        now[0] += REGROW_PERIOD_S
        assert inference.infer({"": WIDE}) == {"": FRAME}
        assert engine.calls[-1] == (1, expected)
    assert inference.describe()["batch_windows"] == "16"


def test_out_of_memory_it_goes_on_trying_with_less_and_recovers_by_itself(inference, engine, now):
    engine.fits = 0
    for batch, calls in [(5, 2), (2, 2), (1, 2), (1, 1), (1, 1)]:
        before = len(engine.calls)
        (outcome,) = infer(inference, [WIDE])
        assert is_short_of_memory(outcome)
        assert inference.error is outcome
        assert engine.calls[-1] == (1, batch)
        assert len(engine.calls) == before + calls
        now[0] += RETRY_PERIOD_S
    engine.fits = 1
    assert infer(inference, [WIDE]) == [FRAME]
    assert inference.error is None


@pytest.mark.parametrize("batch_windows", [1, 16])
def test_a_shortage_that_freeing_memory_cures_costs_no_answer_also_the_tenth_time(inference, engine, batch_windows):
    engine.config = replace(engine.config, batch_windows=batch_windows)

    def free_memory():
        engine.poison = {}
        engine.freed += 1

    engine.free_memory = free_memory
    for times in range(1, 11):
        engine.poison = {0: torch.cuda.OutOfMemoryError("CUDA out of memory")}
        assert infer(inference, [image()]) == [FRAME]
        assert engine.freed == times


def test_where_memory_stays_short_trying_more_costs_no_image_its_answer(inference, engine, now):
    engine.fits = 2
    images, seen = [WIDE, WIDE], Counter()
    for _ in range(3):
        infer(inference, images)
        now[0] += RETRY_PERIOD_S
    for _ in range(600):
        assert infer(inference, images) == [FRAME] * 2
        seen[inference.describe()["batch_windows"]] += 1
        now[0] += RETRY_PERIOD_S
    assert set(seen) == {"16, but as memory is short 2 for 0, 2 for 1"}
    assert engine.freed < 30


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
    infer(Inference(engine), [image()])
    assert alive == [[], [False] * 2, [False] * 2], "a call, freed, the next call"


def test_a_frame_is_kept_while_the_other_images_of_its_batch_are_tried_again(inference, engine):
    engine.poison = {7: torch.cuda.OutOfMemoryError("CUDA out of memory"), 8: KeyError("layer 7")}
    first, second, third = infer(inference, [image(), image(8), image(7)])
    assert (first, second, third) == (FRAME, engine.poison[8], engine.poison[7])
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1, 1], (
        "together, each alone, and what memory was short for"
    )


def test_images_that_only_fit_alone_are_tried_one_at_a_time(inference, engine, now):
    engine.images_fit = 1
    images = [image(), image(1), image(2)]
    assert infer(inference, images) == [FRAME] * 3
    assert engine.calls == [(3, 16), *[(1, 1)] * 3]
    assert inference.error is None
    assert inference.describe()["batch_windows"] == "16, but as memory is short 1 for 0, 1 for 1, 1 for 2"
    before = len(engine.calls)
    assert infer(inference, images) == [FRAME] * 3
    assert engine.calls[before:] == [(1, 1)] * 3, "nothing is tried that is known to fail"
    engine.images_fit = 1000
    for batch in (2, 4, 8, 16):
        now[0] += REGROW_PERIOD_S
        assert infer(inference, images) == [FRAME] * 3
        assert engine.calls[-1] == (1, batch)
    now[0] += REGROW_PERIOD_S
    assert infer(inference, images) == [FRAME] * 3
    assert engine.calls[-1] == (3, 16)
    assert inference.describe()["batch_windows"] == "16"


def drive(inference, engine, now, images, periods_s, max_batch, call_s):
    """Ten minutes of cameras that send at their own rates, as the node has them answered; the outcomes of each."""
    queue, outcomes, next_s = CameraQueue(max_batch), {camera: [] for camera in images}, dict.fromkeys(images, now[0])
    until_s = now[0] + 10 * REGROW_PERIOD_S
    while now[0] < until_s:
        for camera, each in images.items():
            if next_s[camera] <= now[0]:
                queue.put(camera, each)
                next_s[camera] = now[0] + periods_s[camera]
        due_s = queue.due_s()
        if due_s is None or due_s > now[0]:
            now[0] = min(next_s.values() if due_s is None else [due_s, *next_s.values()])
            continue
        batch = queue.take(now[0])
        before = len(engine.calls)
        answers = inference.infer(batch)
        now[0] += call_s * (len(engine.calls) - before)
        for camera, outcome in answers.items():
            outcomes[camera].append(outcome)
            if is_short_of_memory(outcome):
                queue.rest(camera, now[0] + RETRY_PERIOD_S)
    return outcomes


@pytest.mark.parametrize("batch_windows", [1, 16])
@pytest.mark.parametrize("max_batch", [0, 1, 2])
@pytest.mark.parametrize("call_s", [0.005, 3.0])
@pytest.mark.parametrize("front_s", [0.033, 1.0])
def test_an_image_that_never_fits_costs_the_others_no_answer(
    inference, engine, now, batch_windows, max_batch, call_s, front_s
):
    engine.config = replace(engine.config, batch_windows=batch_windows)
    engine.poison = {7: torch.cuda.OutOfMemoryError("CUDA out of memory")}
    images = {"bad": WIDE + np.uint8(7), "front": WIDE, "left": image()}
    inference.infer({"bad": images["bad"]})  # so that it is known before the others come
    outcomes = drive(inference, engine, now, images, {"bad": 0.033, "front": front_s, "left": 0.071}, max_batch, call_s)
    assert set(map(is_short_of_memory, outcomes["bad"])) == {True}
    assert all(outcome is FRAME for camera in ("front", "left") for outcome in outcomes[camera])
    assert min(map(len, outcomes.values())) > 100 / max(1, call_s)
    assert inference.error is engine.poison[7], "at any time"
    assert inference.describe()["batch_windows"] == (
        "16, but as memory is short 1 for bad" if batch_windows > 1 else "1"
    ), "the others have theirs"
    assert engine.freed <= 4, "which costs the others their CUDA graphs"


def test_images_that_fit_alone_and_not_together_lose_an_answer_seldom(inference, engine, now):
    engine.images_fit = 1
    outcomes = drive(
        inference, engine, now, {"a": image(), "b": image(), "c": WIDE}, {"a": 0.5, "b": 0.5, "c": 0.033}, 0, 0.005
    )
    assert all(outcome is FRAME for each in outcomes.values() for outcome in each)


def test_what_failed_is_told_until_that_camera_has_a_frame(inference, engine):
    engine.poison = {7: KeyError("layer 7")}
    inference.infer({"front": image(), "rear": image(7)})
    inference.infer({"front": image()})
    assert inference.error is engine.poison[7]
    inference.infer({"rear": np.zeros((1, 2_000_000, 3), np.uint8)})
    assert inference.error is engine.poison[7], "an image that cannot be used tells nothing of inference"
    inference.infer({"rear": image()})
    assert inference.error is None


def test_an_image_of_too_many_windows_is_refused_before_the_batch(inference, engine):
    sliver = np.zeros((1, 2_000_000, 3), np.uint8)
    first, second, third = infer(inference, [image(), sliver, image()])
    assert first is third is FRAME
    assert isinstance(second, ImageError)
    assert "needs 1000000" in str(second)
    assert engine.calls == [(2, 16)]
    (alone,) = infer(inference, [sliver])
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
    assert infer(inference, [image(7)]) == [error]
    assert bool(engine.freed) is is_short


def test_under_another_configuration_the_batch_is_still_what_memory_allows(inference, engine):
    engine.fits, configured = 8, engine.config
    infer(inference, [WIDE, WIDE])
    assert engine.config is configured, "which is the operator's"
    for batch_windows, expected in ((12, 8), (4, 4), (16, 8)):
        infer(inference, [WIDE], replace(engine.config, batch_windows=batch_windows))
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
