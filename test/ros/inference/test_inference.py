"""What becomes of images if the engine fails or memory is short: no ROS in it."""

import gc
import math
import traceback
import weakref

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyFrame, EngineConfig, ImageError, InferenceError
from eomt_ext_ros.inference.batch_backoff import FIRST_BACKOFF_S, GROW_PERIOD_S, LONGEST_BACKOFF_S
from eomt_ext_ros.inference.inference import FREE_PERIOD_S, LONGEST_FREE_PERIOD_S, Inference
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.workers.camera_queue import CameraQueue

FRAME = AnomalyFrame(np.zeros((32, 64), np.float32), np.zeros((32, 64), bool))
WIDE = np.zeros((32, 640, 3), np.uint8)  # ten windows of 32×64
OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory")
TEN_MINUTES_S = 600.0


class FakeEngine:
    """Processes images on a fake clock, or fails as it is told.

    ``fits`` windows at a time fit in memory, and ``images_fit`` images. An image of a value in ``poison`` fails. A call
    takes ``call_s``, or as long as ``calls_s`` has it for an image of that value.
    """

    crop_hw, class_names, has_semantic, fitting_windows = (32, 64), (), True, None

    def __init__(self, now):
        self.now, self.call_s, self.calls_s = now, 0.0, {}
        self.fits, self.images_fit, self.max_batch_windows, self.poison = 1000, 1000, 1000, {}
        self.calls, self.freed, self.with_semantic = [], 0, []

    def checked(self, config):
        return config

    def threshold_of(self, config):
        return 0.5

    def batch_windows_of(self, config):
        return min(config.batch_windows, self.max_batch_windows)

    def submit(self, images_rgb, *, parts, config):
        return self.infer_batch(images_rgb, semantic="semantic" in parts, config=config)

    def collect(self, batch):
        return batch

    def infer_batch(self, images_rgb, *, semantic=False, config=None):
        self.calls.append((len(images_rgb), config.batch_windows))
        self.with_semantic.append(semantic)
        self.now[0] += max(self.calls_s.get(image[0, 0, 0], self.call_s) for image in images_rgb)
        for image in images_rgb:
            if image[0, 0, 0] in self.poison:
                raise self.poison[image[0, 0, 0]].with_traceback(None)
        windows = sum(image.shape[1] // 64 for image in images_rgb)
        if min(windows, config.batch_windows) > self.fits or len(images_rgb) > self.images_fit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [FRAME] * len(images_rgb)

    def free_memory(self):
        self.freed += 1

    def describe(self, config):
        return {"device": "cpu"}


class CapturingEngine(FakeEngine):
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


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def engine(now):
    return FakeEngine(now)


@pytest.fixture
def inference(engine, now):
    return Inference(engine, clock=lambda: now[0])


def configured(batch_windows=16):
    return EngineConfig(device="cpu", batch_windows=batch_windows)


def submitted(inference, images_rgb, config=None, semantic=()):
    parts = {camera: {"probability", *(["semantic"] if camera in semantic else [])} for camera in images_rgb}
    return inference.submit(images_rgb, config or configured(), parts, inference._clock())


def processed(inference, images_rgb, config=None, **kwargs):
    """What becomes of the images of cameras."""
    outcomes = {}
    for part in inference.collect(submitted(inference, images_rgb, config, **kwargs)):
        outcomes |= part
    return outcomes


def infer(inference, images_rgb, *args):
    """What becomes of the images of as many cameras, ``0``, ``1`` …"""
    outcomes = processed(inference, {str(camera): each for camera, each in enumerate(images_rgb)}, *args)
    return [outcomes[str(camera)] for camera in range(len(images_rgb))]


def batch_windows(inference):
    return inference.describe(configured())["batch_windows"]


def image(value=0):
    return np.full((32, 64, 3), value, np.uint8)


def drive(inference, now, images, periods_s, max_batch=0, config=None, for_s=TEN_MINUTES_S):
    """Cameras that send at their own rates, processed as the node does it; the outcomes of each."""
    queue, outcomes, next_s = CameraQueue(max_batch), {camera: [] for camera in images}, dict.fromkeys(images, now[0])
    until_s = now[0] + for_s
    while now[0] < until_s:
        for camera, each in images.items():
            if next_s[camera] <= now[0]:
                queue.put(camera, each)
                next_s[camera] = now[0] + periods_s[camera]
        due_s = queue.due_s()
        if due_s is None or due_s > now[0]:
            now[0] = min(next_s.values() if due_s is None else [due_s, *next_s.values()])
            continue
        for camera, outcome in processed(inference, queue.take(now[0]), config).items():
            outcomes[camera].append(outcome)
        for camera, backoff_s in inference.backoffs_s.items():
            queue.back_off(camera, now[0] + backoff_s)
    return outcomes


def test_without_a_failure_there_is_one_call(inference, engine):
    assert infer(inference, [image(), image()]) == [FRAME, FRAME]
    assert (engine.calls, engine.freed, inference.failures) == ([(2, 16)], 0, {})
    assert infer(inference, []) == []
    assert len(engine.calls) == 1


@pytest.mark.parametrize("error", [ImageError("too long", "dimensions"), InferenceError("not finite"), KeyError("x")])
def test_an_image_that_fails_costs_the_others_no_frame(inference, engine, error):
    engine.poison = {7: error}
    assert infer(inference, [image(), image(7), image()]) == [FRAME, error, FRAME]
    assert inference.failures == ({} if isinstance(error, ImageError) else {"1": error})
    assert processed(inference, {"1": image(7)}) == {"1": error}
    engine.poison = {}
    assert processed(inference, {"1": image(7)}) == {"1": FRAME}
    assert not inference.failures


def test_windows_are_halved_at_once_and_restored_slowly(inference, engine, now):
    engine.fits = 5
    assert processed(inference, {"": WIDE}) == {"": FRAME}
    assert (engine.freed, inference.failures, inference.backoffs_s) == (1, {}, {})
    assert inference.describe(configured()) == {
        "device": "cpu", "batch_windows": "16 (reduced to 5: out of memory)", "memory freed (times)": "1",
    }  # fmt: skip
    engine.fits = 1000
    outcomes = drive(inference, now, {"": WIDE}, {"": 1.0}, for_s=3 * GROW_PERIOD_S)
    assert all(outcome is FRAME for outcome in outcomes[""])
    assert batch_windows(inference) == "16"


def test_recovers_within_a_second_of_free_memory(inference, engine, now):
    engine.fits = 0
    outcomes = drive(inference, now, {"": WIDE}, {"": 0.1})
    assert set(map(is_out_of_memory, outcomes[""])) == {True}
    assert inference.failures == {"": outcomes[""][-1]}
    engine.fits = 1
    (outcome,) = drive(inference, now, {"": WIDE}, {"": 0.1}, for_s=0.05)[""]
    assert outcome is FRAME
    assert not inference.failures
    assert len(outcomes[""]) == TEN_MINUTES_S / FIRST_BACKOFF_S, "nobody waits for it: it backs off for a second"


@pytest.mark.parametrize("windows", [1, 16])
def test_shortage_cured_by_freeing_costs_no_frame(inference, engine, now, windows):
    def free_memory():
        engine.poison = {}
        engine.freed += 1

    engine.free_memory = free_memory
    for times in range(1, 11):
        engine.poison = {0: OUT_OF_MEMORY}
        assert infer(inference, [image()], configured(windows)) == [FRAME]
        assert engine.freed == times
        now[0] += FREE_PERIOD_S


def test_failed_increase_costs_no_frame_and_waits_longer(inference, engine, now):
    engine.fits, images = 2, {"front": WIDE, "rear": WIDE}
    drive(inference, now, images, {"front": 1.0, "rear": 1.0}, for_s=10.0)
    failures = []
    for _ in range(4):
        before = len(engine.calls)
        outcomes = drive(inference, now, images, {"front": 1.0, "rear": 1.0})
        assert all(outcome is FRAME for each in outcomes.values() for outcome in each)
        failures.append(sum(min(windows, 10 * count) > 2 for count, windows in engine.calls[before:]))
    assert failures[-1] < failures[0] < 20
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
def test_memory_of_a_failed_call_is_freed_before_the_retry(engine, link):
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


@pytest.mark.usefixtures("no_collector")
def test_memory_of_a_failure_is_freed_before_the_next_camera(engine):
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


def test_different_failures_cost_no_other_frame(inference, engine):
    engine.poison = {7: OUT_OF_MEMORY, 8: KeyError("layer 7")}
    first, second, third = infer(inference, [image(), image(8), image(7)])
    assert (first, second, third) == (FRAME, engine.poison[8], engine.poison[7])
    assert inference.backoffs_s == {"2": FIRST_BACKOFF_S}


def test_images_that_fit_only_alone_lose_no_frame(inference, engine, now):
    engine.images_fit, images = 1, {"front": image(), "left": image(1), "right": image(2)}
    outcomes = drive(inference, now, images, dict.fromkeys(images, 0.5), for_s=30.0)
    assert all(outcome is FRAME for each in outcomes.values() for outcome in each)
    assert engine.calls[-1][0] == 1
    engine.images_fit = 1000
    outcomes = drive(inference, now, images, dict.fromkeys(images, 0.5))
    assert all(outcome is FRAME for each in outcomes.values() for outcome in each)
    assert engine.calls[-1] == (3, 16)


def test_too_large_common_batch_shrinks_and_stays_common(inference, engine):
    engine.fits, images = 6, {"front": WIDE[:, :320], "left": WIDE[:, :320], "right": WIDE[:, :320]}
    for _ in range(3):
        assert processed(inference, images) == dict.fromkeys(images, FRAME)
    assert engine.calls[-1] == (3, 3)
    assert batch_windows(inference) == "16 (reduced to 3: out of memory)"


def test_camera_that_does_not_fit_costs_others_no_windows(inference, engine):
    engine.poison = {7: OUT_OF_MEMORY}
    assert processed(inference, {"bad": BAD, "front": WIDE}) == {"bad": OUT_OF_MEMORY, "front": FRAME}
    assert batch_windows(inference) == "16 (reduced to 4 for bad: out of memory)"


def test_batch_stays_within_what_fitted_at_warm_up(engine, now):
    engine.fitting_windows = engine.fits = 4
    inference = Inference(engine, clock=lambda: now[0])
    assert infer(inference, [WIDE, WIDE]) == [FRAME] * 2
    assert processed(inference, {"": WIDE}) == {"": FRAME}
    assert (engine.calls, engine.freed) == ([(2, 4), (1, 4)], 0)
    assert batch_windows(inference) == "16 (reduced to 4: out of memory)", "also for a single camera"
    engine.fits = 1000
    drive(inference, now, {"": WIDE}, {"": 1.0}, for_s=3 * GROW_PERIOD_S)
    assert batch_windows(inference) == "16"


def test_batch_stays_within_what_fitted_at_a_later_warm_up(inference, engine, now):
    assert infer(inference, [WIDE]) == [FRAME]
    engine.fitting_windows = engine.fits = 4
    assert infer(inference, [WIDE]) == [FRAME]
    assert (engine.calls, engine.freed) == ([(1, 16), (1, 4)], 0)
    engine.fits = 1000
    drive(inference, now, {"": WIDE}, {"": 1.0}, for_s=3 * GROW_PERIOD_S)
    assert batch_windows(inference) == "16", "it is noted once"
    engine.fitting_windows = engine.fits = 2
    assert infer(inference, [WIDE]) == [FRAME]
    assert engine.freed == 0


def test_a_warm_up_gives_back_no_windows_that_memory_took(inference, engine):
    engine.fits, images = 6, [WIDE[:, :320]] * 3
    for _ in range(3):
        assert infer(inference, images) == [FRAME] * 3
    engine.fitting_windows = 8
    assert infer(inference, images) == [FRAME] * 3
    assert batch_windows(inference) == "16 (reduced to 3: out of memory)"


def test_who_fails_goes_alone_until_it_has_not_for_a_while(inference, engine, now):
    engine.poison = {7: InferenceError("not finite")}
    images = [image(), image(7), image()]
    infer(inference, images)
    assert [count for count, _ in engine.calls] == [3, 1, 1, 1]
    for poison in (engine.poison, {}, engine.poison, {}):
        before, engine.poison = len(engine.calls), poison
        assert infer(inference, images) == [FRAME, poison.get(7, FRAME), FRAME]
        assert [count for count, _ in engine.calls[before:]] == [2, 1]
    now[0] += GROW_PERIOD_S
    infer(inference, images)
    assert engine.calls[-1] == (3, 16)


def test_images_that_fail_together_alone_go_alone_for_a_while(inference, engine, now):
    def infer_batch(images_rgb, *, semantic=False, config=None):
        frames = process(images_rgb, semantic=semantic, config=config)
        if len(images_rgb) > 1:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        return frames

    process, engine.infer_batch = engine.infer_batch, infer_batch
    for calls in ([2, 1, 1], [1, 1], [1, 1]):
        before = len(engine.calls)
        assert infer(inference, [image(), image()]) == [FRAME] * 2
        assert [count for count, _ in engine.calls[before:]] == calls
    now[0] += GROW_PERIOD_S
    infer(inference, [image(), image()])
    assert [count for count, _ in engine.calls[-3:]] == [2, 1, 1]


def test_outcome_before_the_others_are_tried(inference, engine):
    engine.poison = {7: InferenceError("not finite")}
    images = {"front": image(), "rear": image(7), "left": image(), "sliver": np.zeros((1, 2_000_000, 3), np.uint8)}
    processed(inference, images)
    before, parts = len(engine.calls), inference.collect(submitted(inference, images))
    assert set(next(parts)) == {"sliver"}
    assert (next(parts), engine.calls[before:]) == ({"front": FRAME, "left": FRAME}, [(2, 16)])
    assert [*parts] == [{"rear": engine.poison[7]}]


def test_only_semantic_images_are_retried_with_classes(inference, engine):
    def infer_batch(images_rgb, *, semantic=False, config=None):
        frames = process(images_rgb, semantic=semantic, config=config)
        if semantic:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return frames

    process, engine.infer_batch = engine.infer_batch, infer_batch
    outcomes = processed(inference, {"front": image(), "rear": image()}, semantic={"front"})
    assert (is_out_of_memory(outcomes["front"]), outcomes["rear"]) == (True, FRAME)
    assert engine.with_semantic == [True, True, False]
    assert inference.backoffs_s == {"front": FIRST_BACKOFF_S}


def test_memory_that_cannot_be_freed_costs_the_others_no_frame(inference, engine):
    def free_memory():
        raise RuntimeError("CUDA error: unspecified launch failure")

    engine.free_memory, engine.poison = free_memory, {7: OUT_OF_MEMORY}
    assert processed(inference, {"front": image(), "rear": image(7)}) == {"front": FRAME, "rear": OUT_OF_MEMORY}


def test_what_is_halved_is_what_the_model_takes(inference, engine):
    engine.max_batch_windows, engine.fits = 4, 3
    assert infer(inference, [WIDE]) == [FRAME]
    assert batch_windows(inference) == "4 (reduced to 2 for 0: out of memory)"


def faulty(now, error=OUT_OF_MEMORY, call_s=0.005, calls_s=None):
    engine = FakeEngine(now)
    engine.poison, engine.call_s, engine.calls_s = {7: error}, call_s, calls_s or {}
    return engine


def fitting(now, call_s, **fits):
    engine = FakeEngine(now)
    engine.call_s = call_s
    engine.__dict__.update(fits)
    return engine


BAD = WIDE + np.uint8(7)
THREE = {"bad": BAD, "front": WIDE, "left": image()}
# Cameras and their periods, the engine, windows and cameras at a time, most frees; and of each camera, how many images
# are processed at least.
SCENARIOS = {
    f"never fits, {windows} windows, {cameras or 'all'} cameras, calls of {call_s} s": (
        THREE, {"bad": 0.1, "front": 0.1, "left": 0.2}, lambda now, call_s=call_s: faulty(now, call_s=call_s),
        windows, cameras, 8, {"bad": 0, "front": front, "left": left},
    )
    for windows in (1, 16)
    for cameras, call_s, front, left in (
        (0, 0.005, 5990, 2990), (0, 3.0, 175, 175), (1, 0.005, 5990, 2990), (1, 3.0, 88, 87),
    )
} | {
    f"{count} with attempts of {bad_s} s": (
        {f"bad {number}": BAD for number in range(count)} | {"front": image()},
        dict.fromkeys([*(f"bad {number}" for number in range(count)), "front"], 0.1),
        lambda now, bad_s=bad_s: faulty(now, call_s=0.03, calls_s={7: bad_s}),
        16, 0, 8, {"front": front},
    )
    for count, bad_s, front in ((1, 0.1, 5950), (1, 1.0, 5800), (1, 10.0, 4650), (5, 1.0, 5350))
} | {
    f"fits after freeing alone, captures of {capture_s} s": (
        {"large": BAD, "front": image()}, {"large": 0.1, "front": 0.1},
        lambda now, capture_s=capture_s: CapturingEngine(now, capture_s),
        16, 0, 60, {"large": 35, "front": front},
    )
    for capture_s, front in ((0.5, 5650), (2.0, 5000))
} | {
    "fit alone only": (
        {"a": image(), "b": image(), "c": WIDE}, dict.fromkeys("abc", 0.5),
        lambda now: fitting(now, 0.005, images_fit=1), 16, 0, 6, dict.fromkeys("abc", 1199),
    ),
    "five windows fit": (
        {"a": WIDE, "b": WIDE}, dict.fromkeys("ab", 0.1),
        lambda now: fitting(now, 0.02, fits=5), 16, 0, 6, dict.fromkeys("ab", 5985),
    ),
    "one is never finite": (
        {"bad": image(7), "front": image()}, {"bad": 0.1, "front": 0.1},
        lambda now: faulty(now, InferenceError("not finite"), 0.02), 16, 0, 0, {"bad": 0, "front": 5990},
    ),
}  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_only_the_camera_that_does_not_fit_loses_frames(now, scenario):
    images, periods_s, make_engine, windows, cameras, most_freed, least = SCENARIOS[scenario]
    engine = make_engine(now)
    inference = Inference(engine, clock=lambda: now[0])
    for _ in range(3):  # down to one window
        processed(inference, images, configured(windows))
    outcomes = drive(inference, now, images, periods_s, cameras, configured(windows))
    counts = {camera: sum(outcome is FRAME for outcome in each) for camera, each in outcomes.items()}
    for camera, each in outcomes.items():
        if (images[camera] == 7).any():
            assert len(each) > counts[camera], "it fails"
            assert len(each) >= TEN_MINUTES_S / 90, "it goes on trying"
        else:
            assert counts[camera] == len(each), f"{camera} loses no frame"
    assert {camera: counts[camera] for camera in least if counts[camera] < least[camera]} == {}
    assert engine.freed <= most_freed
    assert all(max(inference.backoffs_s.values(), default=0.0) <= LONGEST_BACKOFF_S for _ in outcomes)


def test_camera_that_fits_after_freeing_recovers(now):
    engine = CapturingEngine(now, capture_s=0.5)
    inference, images = Inference(engine, clock=lambda: now[0]), {"large": BAD, "front": image()}
    drive(inference, now, images, {"large": 0.1, "front": 0.1}, for_s=60.0)
    engine.is_taken = True
    drive(inference, now, images, {"large": 0.1, "front": 0.1})
    engine.is_taken = False
    first_minutes = drive(inference, now, images, {"large": 0.1, "front": 0.1}, for_s=LONGEST_FREE_PERIOD_S)
    assert FRAME in first_minutes["front"][:2]
    outcomes = drive(inference, now, images, {"large": 0.1, "front": 0.1})
    assert sum(outcome is FRAME for outcome in outcomes["large"]) > 30


def test_a_camera_that_sends_no_more_is_not_waited_for(inference, engine, now):
    processed(inference, {"rear": image()})
    engine.poison = {7: OUT_OF_MEMORY}
    for _ in range(4):
        processed(inference, {"front": image(7)})
        assert inference.backoffs_s == {"front": FIRST_BACKOFF_S}
        now[0] += FIRST_BACKOFF_S


def test_failure_is_reported_until_the_camera_has_a_frame(inference, engine):
    engine.poison = {7: KeyError("layer 7")}
    processed(inference, {"front": image(), "rear": image(7)})
    processed(inference, {"front": image()})
    assert inference.failures == {"rear": engine.poison[7]}
    processed(inference, {"rear": np.zeros((1, 2_000_000, 3), np.uint8)})
    assert inference.failures == {"rear": engine.poison[7]}, "an image that cannot be used tells nothing of inference"
    processed(inference, {"rear": image()})
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


def test_learnt_batch_survives_a_new_configuration(inference, engine):
    engine.fits = 5
    infer(inference, [WIDE])
    for windows, expected in ((12, 5), (4, 4), (16, 5)):
        infer(inference, [WIDE], configured(windows))
        assert engine.calls[-1] == (1, expected)


class CrowdedEngine(FakeEngine):
    """Has no memory for a batch beside another one, of as many batches as ``crowded`` says."""

    def __init__(self, now):
        super().__init__(now)
        self.crowded, self.in_flight = 1, 0

    def submit(self, images_rgb, *, parts, config):
        if self.in_flight and self.crowded:
            self.crowded -= 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        batch = super().submit(images_rgb, parts=parts, config=config)
        self.in_flight += 1
        return batch

    def collect(self, batch):
        self.in_flight -= 1
        return batch


def collected(inference, flight):
    return {camera: outcome for part in inference.collect(flight) for camera, outcome in part.items()}


def test_a_batch_that_does_not_fit_beside_another_is_tried_without_it(now):
    engine = CrowdedEngine(now)
    inference = Inference(engine, clock=lambda: now[0])
    first = submitted(inference, {"front": WIDE})
    assert inference.overlap_at_s < now[0]
    second = submitted(inference, {"rear": WIDE})
    assert inference.overlap_at_s == math.inf, "until the one that failed is tried again"
    assert "in flight" not in inference.describe(configured())
    assert collected(inference, first) == {"front": FRAME}
    assert inference.overlap_at_s == math.inf
    assert collected(inference, second) == {"rear": FRAME}
    assert (engine.freed, batch_windows(inference), inference.backoffs_s) == (0, "16", {}), "no window is taken away"
    third = submitted(inference, {"front": WIDE})
    assert inference.overlap_at_s == math.inf
    assert inference.describe(configured())["in flight"] == "1 for now: out of memory for two"
    now[0] += GROW_PERIOD_S
    assert inference.overlap_at_s < now[0]
    assert "in flight" not in inference.describe(configured())
    assert collected(inference, third) == {"front": FRAME}


def test_a_batch_that_does_not_fit_alone_either_is_halved(now):
    engine = CrowdedEngine(now)
    engine.fits, engine.crowded = 6, 100
    inference = Inference(engine, clock=lambda: now[0])
    first, second = submitted(inference, {"front": image()}), submitted(inference, {"rear": WIDE})
    assert collected(inference, first) == {"front": FRAME}
    assert collected(inference, second) == {"rear": FRAME}
    assert batch_windows(inference) == "16 (reduced to 5 for rear: out of memory)"


def test_a_failed_submission_is_finished_before_another_begins(inference, engine, now):
    engine.poison = {7: KeyError("layer 7")}
    flight = submitted(inference, {"front": image(7)})
    assert inference.overlap_at_s == math.inf
    assert collected(inference, flight) == {"front": engine.poison[7]}
    submitted(inference, {"front": image()})
    assert inference.overlap_at_s < now[0]


def test_nothing_begins_beside_a_flight_with_calls_to_come(inference, engine, now):
    engine.poison = {7: KeyError("layer 7")}
    processed(inference, {"front": image(), "bad": image(7)})
    engine.poison = {}
    first = submitted(inference, {"front": image()})
    assert inference.overlap_at_s < math.inf
    second = submitted(inference, {"front": image(), "bad": image(7)})
    assert inference.overlap_at_s == math.inf, "the camera that goes alone is submitted when the flight is collected"
    assert collected(inference, first) == {"front": FRAME}
    assert inference.overlap_at_s == math.inf
    assert collected(inference, second) == {"front": FRAME, "bad": FRAME}
    submitted(inference, {"bad": image(7)})
    assert inference.overlap_at_s < math.inf, "its own call is the first"


def test_what_is_tried_again_comes_after_what_is_in_flight(now):
    order = []

    class DeviceEngine(FakeEngine):
        """Fails for an image of value 7 when it is collected, and has memory for one batch."""

        on_device = 0

        def submit(self, images_rgb, *, parts, config):
            if self.on_device and len(order) > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            self.on_device += 1
            order.append(f"submit {[int(image[0, 0, 0]) for image in images_rgb]}")
            return images_rgb

        def collect(self, batch):
            self.on_device -= 1
            order.append(f"collect {[int(image[0, 0, 0]) for image in batch]}")
            return self.infer_batch(batch, config=configured())

    engine = DeviceEngine(now)
    engine.poison = {7: InferenceError("not finite")}
    inference = Inference(engine, clock=lambda: now[0])
    first = submitted(inference, {"front": image(1), "bad": image(7)})
    second = submitted(inference, {"front": image(2)})
    assert collected(inference, first) == {"front": FRAME, "bad": engine.poison[7]}
    assert collected(inference, second) == {"front": FRAME}
    assert order == [
        "submit [1, 7]", "submit [2]", "collect [1, 7]", "collect [2]",
        "submit [1]", "collect [1]", "submit [7]", "collect [7]",
    ]  # fmt: skip
    assert (engine.freed, batch_windows(inference), inference.backoffs_s) == (0, "16", {})


def test_a_beginning_without_inference_does_not_count_for_the_pace(inference, engine, now):
    def begin(image_rgb):
        began_s = now[0]
        now[0] += 1.0
        flight = inference.submit({"": image_rgb}, configured(), {"": {"probability"}}, began_s)
        now[0] += 10.0
        return flight

    for _ in range(9):
        collected(inference, begin(image()))
    expected_s = inference._pace.begin_at_s(now[0], 1)
    for _ in range(9):
        began_s = now[0]
        flight = inference.submit({"": np.zeros((1, 2_000_000, 3), np.uint8)}, configured(), {"": set()}, began_s)
        collected(inference, flight)
        collected(inference, inference.submit({}, configured(), {}, began_s))
    assert inference._pace.begin_at_s(now[0], 1) == expected_s


def test_each_flight_runs_under_its_own_configuration(inference, engine):
    flights = [submitted(inference, {"front": WIDE}, configured(windows)) for windows in (3, 5)]
    for flight in flights:
        assert collected(inference, flight) == {"front": FRAME}
    assert engine.calls == [(1, 3), (1, 5)]
