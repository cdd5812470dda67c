"""What the node makes of an engine's failures: no ROS in it."""

import gc
import traceback
import weakref
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyFrame, EngineConfig, ImageError, InferenceError
from eomt_ext_ros.inference.inference import REST_FACTOR, REST_PERIOD_S, Inference
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.inference.memory_share import FREE_PERIOD_S, REGROW_PERIOD_S, SILENT_AFTER_S, VAIN_FREE_PERIOD_S
from eomt_ext_ros.workers.camera_queue import CameraQueue

FRAME = AnomalyFrame(np.zeros((32, 64), np.float32), np.zeros((32, 64), bool))
WIDE = np.zeros((32, 640, 3), np.uint8)  # ten windows of 32×64


class FaultyEngine:
    """Answers, or fails as it is told: a number of windows that fits in memory, and values no image may have.

    A call takes ``call_s``, or as long as ``calls_s`` has it for an image of that value.
    """

    crop_hw, class_names, threshold, has_semantic = (32, 64), (), 0.5, True

    def __init__(self, now, batch_windows=16):
        self.now, self.call_s, self.calls_s = now, 0.0, {}
        self.config = EngineConfig(device="cpu", batch_windows=batch_windows)
        self.fits, self.images_fit, self.max_batch_windows, self.poison = 1000, 1000, 1000, {}
        self.calls, self.freed, self.with_semantic = [], 0, []

    def threshold_of(self, config):
        return self.threshold

    def batch_windows_of(self, config):
        return min(config.batch_windows, self.max_batch_windows)

    def infer_batch(self, images_rgb, *, semantic=False, config=None):
        batch_windows = (config or self.config).batch_windows
        self.calls.append((len(images_rgb), batch_windows))
        self.with_semantic.append(semantic)
        self.now[0] += max(self.calls_s.get(image[0, 0, 0], self.call_s) for image in images_rgb)
        for image in images_rgb:
            if image[0, 0, 0] in self.poison:
                raise self.poison[image[0, 0, 0]]
        if batch_windows > self.fits or len(images_rgb) > self.images_fit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [FRAME] * len(images_rgb)

    def free_memory(self):
        self.freed += 1

    def describe(self):
        return {"device": "cpu"}


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def engine(now):
    return FaultyEngine(now)


@pytest.fixture
def inference(engine, now):
    return Inference(engine, clock=lambda: now[0])


def answered(inference, images_rgb, *args, **kwargs):
    """What becomes of the images of cameras."""
    outcomes = {}
    for part in inference.infer(images_rgb, *args, **kwargs):
        outcomes |= part
    return outcomes


def infer(inference, images_rgb, *args):
    """What becomes of the images of as many cameras, ``0``, ``1`` …"""
    outcomes = answered(inference, {str(camera): each for camera, each in enumerate(images_rgb)}, *args)
    return [outcomes[str(camera)] for camera in range(len(images_rgb))]


def image(value=0):
    return np.full((32, 64, 3), value, np.uint8)


def test_without_a_failure_there_is_one_call(inference, engine):
    assert infer(inference, [image(), image()]) == [FRAME, FRAME]
    assert (engine.calls, engine.freed, inference.failures) == ([(2, 16)], 0, {})
    assert infer(inference, []) == []
    assert len(engine.calls) == 1


@pytest.mark.parametrize("error", [ImageError("too long", "dimensions"), InferenceError("not finite"), KeyError("x")])
def test_an_image_that_fails_does_not_cost_the_others_theirs(inference, engine, error):
    engine.poison = {7: error}
    assert infer(inference, [image(), image(7), image()]) == [FRAME, error, FRAME]
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1]
    assert inference.failures == ({} if isinstance(error, ImageError) else {"1": error})
    assert answered(inference, {"1": image(7)}) == {"1": error}
    engine.poison = {}
    assert answered(inference, {"1": image(7)}) == {"1": FRAME}
    assert not inference.failures


def test_out_of_memory_the_batch_is_halved_and_the_call_tried_once_more(inference, engine, now):
    engine.fits = 5
    assert answered(inference, {"": WIDE}) == {"": FRAME}
    assert engine.calls == [(1, 16), (1, 5)], "half of the ten windows that there were"
    assert (engine.freed, inference.failures, inference.rests_s) == (1, {}, {})
    batch = "16, but as memory is short 5"
    assert inference.describe() == {"device": "cpu", "batch_windows": batch, "memory freed (times)": "1"}
    assert answered(inference, {"": WIDE}) == {"": FRAME}
    assert engine.calls[2:] == [(1, 5)]
    engine.fits = 1000
    for expected in (16, 16):  # ten are all that there are
        now[0] += REGROW_PERIOD_S
        assert answered(inference, {"": WIDE}) == {"": FRAME}
        assert engine.calls[-1] == (1, expected)
    assert inference.describe()["batch_windows"] == "16"


def test_out_of_memory_it_goes_on_trying_with_less_and_recovers_by_itself(inference, engine, now):
    engine.fits = 0
    for batch, calls in [(5, 2), (2, 2), (1, 2), (1, 2), (1, 2)]:
        before = len(engine.calls)
        (outcome,) = infer(inference, [WIDE])
        assert is_out_of_memory(outcome)
        assert inference.failures == {"0": outcome}
        assert inference.rests_s == {"0": REST_PERIOD_S}
        assert engine.calls[-1] == (1, batch)
        assert len(engine.calls) == before + calls
        now[0] += REST_PERIOD_S
    engine.fits = 1
    assert infer(inference, [WIDE]) == [FRAME]
    assert not inference.failures


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
        assert inference.rests_s == {}, "there is no other camera to be spared"


def test_where_memory_stays_short_trying_more_costs_no_image_its_answer(inference, engine, now):
    engine.fits = 2
    images, seen = [WIDE, WIDE], Counter()
    for _ in range(3):
        infer(inference, images)
        now[0] += REST_PERIOD_S
    for _ in range(600):
        assert infer(inference, images) == [FRAME] * 2
        seen[inference.describe()["batch_windows"]] += 1
        now[0] += REST_PERIOD_S
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
    assert not inference.failures
    assert inference.describe()["batch_windows"] == "16, but as memory is short 1 for 0, 1 for 1, 1 for 2"
    before = len(engine.calls)
    assert infer(inference, images) == [FRAME] * 3
    assert engine.calls[before:] == [(1, 1)] * 3, "nothing is tried that is known to fail"
    engine.images_fit = 1000
    now[0] += REGROW_PERIOD_S
    assert infer(inference, images) == [FRAME] * 3
    assert engine.calls[-1] == (1, 16)
    now[0] += REGROW_PERIOD_S
    assert infer(inference, images) == [FRAME] * 3
    assert engine.calls[-1] == (3, 16)
    assert inference.describe()["batch_windows"] == "16"


def drive(inference, now, images, periods_s, max_batch=0):
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
        for camera, outcome in answered(inference, batch).items():
            outcomes[camera].append(outcome)
        for camera, rest_s in inference.rests_s.items():
            queue.rest(camera, now[0] + rest_s)
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
    answered(inference, {"bad": images["bad"]})  # so that it is known before the others come
    engine.call_s = call_s
    outcomes = drive(inference, now, images, {"bad": 0.033, "front": front_s, "left": 0.071}, max_batch)
    assert set(map(is_out_of_memory, outcomes["bad"])) == {True}
    assert all(outcome is FRAME for camera in ("front", "left") for outcome in outcomes[camera])
    assert min(len(outcomes[camera]) for camera in ("front", "left")) > 100 / max(1, call_s)
    assert len(outcomes["bad"]) > 20, "it goes on trying"
    assert inference.failures == {"bad": engine.poison[7]}, "at any time"
    assert inference.describe()["batch_windows"] == (
        "16, but as memory is short 1 for bad" if batch_windows > 1 else "1"
    ), "the others have theirs"
    assert engine.freed <= 4 + 10 * REGROW_PERIOD_S / VAIN_FREE_PERIOD_S, "which costs the others their CUDA graphs"


@pytest.mark.usefixtures("no_collector")
def test_what_another_failure_held_is_gone_when_the_next_camera_is_tried_and_it_can_be_explained(engine):
    held, alive = [], []

    def normalise(scores):
        held.append(weakref.ref(scores))
        raise InferenceError("not finite")

    def infer_batch(images_rgb, *, semantic=False, config=None):
        alive.append([reference() is not None for reference in held])
        normalise(np.zeros(3))

    engine.infer_batch = infer_batch
    first, _ = infer(Inference(engine), [image(), image()])
    assert alive == [[], [False], [False, False]], "together, and each alone"
    assert "in normalise" in "".join(traceback.format_exception(type(first), first, first.__traceback__))


def test_who_fails_goes_alone_until_it_has_not_for_a_while(inference, engine, now):
    engine.poison = {7: InferenceError("not finite")}
    images = [image(), image(7), image()]
    infer(inference, images)
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1]
    for poison in (engine.poison, {}, engine.poison, {}):
        before, engine.poison = len(engine.calls), poison
        assert infer(inference, images) == [FRAME, poison.get(7, FRAME), FRAME]
        assert [count for count, _ in engine.calls[before:]] == [2, 1]
    now[0] += REGROW_PERIOD_S
    infer(inference, images)
    assert engine.calls[-1] == (3, 16)


def test_images_that_fail_together_alone_go_alone_for_a_while(inference, engine, now):
    def infer_batch(images_rgb, *, semantic=False, config=None):
        frames = answer(images_rgb, semantic=semantic, config=config)
        if len(images_rgb) > 1:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        return frames

    answer, engine.infer_batch = engine.infer_batch, infer_batch
    for calls in ([2, 1, 1], [1, 1], [1, 1]):
        before = len(engine.calls)
        assert infer(inference, [image(), image()]) == [FRAME] * 2
        assert [count for count, _ in engine.calls[before:]] == calls
    now[0] += REGROW_PERIOD_S
    infer(inference, [image(), image()])
    assert [count for count, _ in engine.calls[-3:]] == [2, 1, 1]


def test_what_goes_together_has_its_outcome_before_the_others_are_tried(inference, engine):
    engine.poison = {7: InferenceError("not finite")}
    images = {"front": image(), "rear": image(7), "left": image(), "sliver": np.zeros((1, 2_000_000, 3), np.uint8)}
    answered(inference, images)
    before, parts = len(engine.calls), inference.infer(images)
    assert set(next(parts)) == {"sliver"}
    assert (next(parts), engine.calls[before:]) == ({"front": FRAME, "left": FRAME}, [(2, 16)])
    assert [*parts] == [{"rear": engine.poison[7]}]


def test_only_images_that_need_the_known_classes_are_tried_alone_with_them(inference, engine):
    def infer_batch(images_rgb, *, semantic=False, config=None):
        frames = answer(images_rgb, semantic=semantic, config=config)
        if semantic:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return frames

    answer, engine.infer_batch = engine.infer_batch, infer_batch
    outcomes = answered(inference, {"front": image(), "rear": image()}, semantic={"front"})
    assert (is_out_of_memory(outcomes["front"]), outcomes["rear"]) == (True, FRAME)
    assert engine.with_semantic == [True, True, False]
    assert inference.rests_s == {"front": REST_PERIOD_S}


def test_where_memory_cannot_be_freed_the_others_keep_their_frames(inference, engine):
    answered(inference, {"rear": image()})

    def free_memory():
        raise lost

    engine.free_memory, lost = free_memory, RuntimeError("CUDA error: unspecified launch failure")
    engine.poison = {7: torch.cuda.OutOfMemoryError("CUDA out of memory"), 8: KeyError("layer 7")}
    outcomes = answered(inference, {"front": image(), "left": image(8), "rear": image(7)})
    assert outcomes == {"front": FRAME, "left": engine.poison[8], "rear": lost}
    assert inference.failures == {"left": engine.poison[8], "rear": lost}
    assert lost.__traceback__ is None


def test_what_is_halved_is_what_was_tried(inference, engine):
    engine.poison, engine.fits, four = {7: KeyError("layer 7")}, 3, np.zeros((32, 256, 3), np.uint8)
    first, second, third = infer(inference, [four, image(7), four])
    assert (first, second, third) == (FRAME, engine.poison[7], FRAME)
    assert [batch for _, batch in engine.calls[-4:]] == [2, 16, 16, 2], "each had four"


def test_what_is_halved_is_what_the_model_takes(inference, engine):
    engine.max_batch_windows, engine.fits = 4, 3
    assert infer(inference, [WIDE]) == [FRAME]
    assert engine.calls == [(1, 4), (1, 2)]
    assert inference.describe()["batch_windows"] == "4, but as memory is short 2 for 0"


def test_a_camera_of_few_windows_goes_with_the_others_again_after_two_minutes(inference, engine, now):
    engine.images_fit, two = 1, np.zeros((32, 128, 3), np.uint8)
    infer(inference, [two, two])
    engine.images_fit = 1000
    for expected in ([(1, 2)] * 2, [(1, 16)] * 2, [(2, 16)]):
        before = len(engine.calls)
        assert infer(inference, [two, two]) == [FRAME] * 2
        assert engine.calls[before:] == expected
        now[0] += REGROW_PERIOD_S


@pytest.mark.parametrize("max_batch", [0, 1])
@pytest.mark.parametrize(("bad_s", "num_bad"), [(0.1, 1), (1.0, 1), (10.0, 1), (0.1, 5), (1.0, 5), (10.0, 2)])
def test_attempts_that_take_long_to_fail_leave_the_others_most_of_the_time(
    inference, engine, now, bad_s, num_bad, max_batch
):
    engine.poison = {7: torch.cuda.OutOfMemoryError("CUDA out of memory")}
    engine.call_s, engine.calls_s = 0.03, {7: bad_s}
    images = {f"bad {number}": WIDE + np.uint8(7) for number in range(num_bad)} | {"front": image()}
    for _ in range(5):  # down to one window
        answered(inference, images)
    outcomes = drive(inference, now, images, dict.fromkeys(images, 0.05), max_batch)
    assert all(outcome is FRAME for outcome in outcomes["front"])
    assert len(outcomes["front"]) > 0.7 * 10 * REGROW_PERIOD_S / 0.05
    assert min(map(len, outcomes.values())) > 2, "it goes on trying"


def test_a_camera_that_nobody_waits_for_does_not_rest_long(inference, engine):
    engine.fits, engine.call_s = 0, 10.0
    answered(inference, {"": WIDE})
    assert inference.rests_s == {"": REST_PERIOD_S}


def test_the_time_for_which_a_camera_rests_is_that_of_its_own_attempt(inference, engine):
    engine.poison, engine.call_s = {7: torch.cuda.OutOfMemoryError("CUDA out of memory")}, 1.0
    answered(inference, {"rear": image(7), "front": image(), "left": image()})
    assert inference.rests_s == {"rear": REST_FACTOR * 1.0}


class CapturingEngine(FaultyEngine):
    """What it captures for images leaves no room for those of value 7, until memory is freed; capturing takes time."""

    def __init__(self, now, capture_s):
        super().__init__(now)
        self.call_s, self.capture_s, self.is_captured, self.is_taken = 0.02, capture_s, False, False

    def infer_batch(self, images_rgb, *, semantic=False, config=None):
        frames = super().infer_batch(images_rgb, semantic=semantic, config=config)
        if self.is_taken or (self.is_captured and any(image[0, 0, 0] == 7 for image in images_rgb)):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if any(image[0, 0, 0] != 7 for image in images_rgb) and not self.is_captured:
            self.is_captured = True
            self.now[0] += self.capture_s
        return frames

    def free_memory(self):
        super().free_memory()
        self.is_captured = False


@pytest.mark.parametrize("front_s", [0.1, 1.0])
@pytest.mark.parametrize("capture_s", [0.5, 2.0])
def test_where_freeing_helps_each_time_it_is_done_seldom_enough_for_the_others(now, capture_s, front_s):
    engine = CapturingEngine(now, capture_s)
    images = {"large": WIDE + np.uint8(7), "front": image()}
    outcomes = drive(Inference(engine, clock=lambda: now[0]), now, images, {"large": 0.1, "front": front_s})
    assert all(outcome is FRAME for outcome in outcomes["front"])
    assert len(outcomes["front"]) > 0.7 * 10 * REGROW_PERIOD_S / front_s
    assert sum(outcome is FRAME for outcome in outcomes["large"]) > 0.8 * 10 * REGROW_PERIOD_S / FREE_PERIOD_S
    assert engine.freed < 1.2 * 10 * REGROW_PERIOD_S / FREE_PERIOD_S


def test_a_camera_that_only_has_room_where_memory_is_freed_comes_back_after_a_time_of_none(now):
    engine = CapturingEngine(now, capture_s=0.5)
    inference, images = Inference(engine, clock=lambda: now[0]), {"large": WIDE + np.uint8(7), "front": image()}
    drive(inference, now, images, {"large": 0.1, "front": 0.1})
    engine.is_taken = True
    for _ in range(10):
        answered(inference, images)
        now[0] += REST_PERIOD_S
    engine.is_taken = False
    outcomes = drive(inference, now, images, {"large": 0.1, "front": 0.1})
    assert sum(outcome is FRAME for outcome in outcomes["large"]) > 0.6 * 10 * REGROW_PERIOD_S / FREE_PERIOD_S


def test_images_that_fit_alone_and_not_together_lose_no_answer_and_are_put_together_ever_more_seldom(
    inference, engine, now
):
    engine.images_fit = 1
    engine.call_s = 0.005
    images, periods_s = {"a": image(), "b": image(), "c": WIDE}, {"a": 0.5, "b": 0.5, "c": 0.5}
    for freed in (3, 4, 5, 5, 5, 6):  # in ten minutes each
        outcomes = drive(inference, now, images, periods_s)
        assert all(outcome is FRAME for each in outcomes.values() for outcome in each)
        assert engine.freed <= freed


@pytest.mark.parametrize("was_short", [False, True])
def test_a_camera_that_sends_no_more_is_not_spared(inference, engine, now, was_short):
    engine.fits, engine.call_s = 0 if was_short else 1000, 10.0
    for _ in range(6):
        answered(inference, {"rear": image()})
    now[0] += SILENT_AFTER_S
    engine.poison = {7: torch.cuda.OutOfMemoryError("CUDA out of memory")}
    for _ in range(4):
        answered(inference, {"front": image(7)})
    for _ in range(3):
        before = engine.freed
        answered(inference, {"front": image(7)})
        assert (engine.freed - before, inference.rests_s) == (1, {"front": REST_PERIOD_S})


def test_cameras_that_rest_are_reckoned_with_and_those_that_send_no_more_are_not(inference, engine, now):
    engine.poison, engine.calls_s = {7: torch.cuda.OutOfMemoryError("CUDA out of memory")}, {7: 10.0}
    for _ in range(2):
        answered(inference, {"rear": image(7), "left": image(7), "front": image()})
    rest_s = inference.rests_s["rear"]
    shorts = []
    for _ in range(7):
        now[0] += rest_s / 4
        before = len(engine.calls)
        answered(inference, {"left": image(7), "front": image()})
        attempts = len(engine.calls) - before - 1
        shorts.append(inference.rests_s["left"] / (REST_FACTOR * 10.0 * attempts))
    assert shorts[:2] == [2, 2], "rear is still to come"
    assert shorts[-1] == 1


def test_what_failed_is_told_until_that_camera_has_a_frame(inference, engine):
    engine.poison = {7: KeyError("layer 7")}
    answered(inference, {"front": image(), "rear": image(7)})
    answered(inference, {"front": image()})
    assert inference.failures == {"rear": engine.poison[7]}
    answered(inference, {"rear": np.zeros((1, 2_000_000, 3), np.uint8)})
    assert inference.failures == {"rear": engine.poison[7]}, "an image that cannot be used tells nothing of inference"
    answered(inference, {"rear": image()})
    assert not inference.failures


def test_an_image_of_too_many_windows_is_refused_before_the_batch(inference, engine):
    sliver = np.zeros((1, 2_000_000, 3), np.uint8)
    first, second, third = infer(inference, [image(), sliver, image()])
    assert first is third is FRAME
    assert isinstance(second, ImageError)
    assert "needs 1000000" in str(second)
    assert engine.calls == [(2, 16)]
    (alone,) = infer(inference, [sliver])
    assert isinstance(alone, ImageError)
    assert (len(engine.calls), inference.failures) == (1, {})


def test_under_another_configuration_the_batch_is_still_what_memory_allows(inference, engine):
    engine.fits, configured = 8, engine.config
    infer(inference, [WIDE, WIDE])
    assert engine.config is configured, "which is the operator's"
    for batch_windows, expected in ((12, 8), (4, 4), (16, 8)):
        infer(inference, [WIDE], replace(engine.config, batch_windows=batch_windows))
        assert engine.calls[-1] == (1, expected)
