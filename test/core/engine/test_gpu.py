"""The engine on a GPU: graphs change nothing, and the steady state allocates nothing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, AnomalyFrame, EngineConfig, EoMTExt, HeadConfig
from eomt_ext_core.backends.parts import PLAIN, Part
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.engine.frame import SubmittedBatch

pytestmark = pytest.mark.gpu

Make = Callable[..., EoMTExt]
EXACT = EngineConfig(device="cuda", precision="fp32")
CAMERAS = [
    np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    for seed, size in enumerate([(75, 200), (64, 96), (130, 41), (90, 300)])
]


@pytest.fixture(scope="module")
def model(tiny_model: Make) -> EoMTExt:
    return tiny_model(HeadConfig(64, 0.3, 8))


def by_torch(engine: AnomalyEngine) -> AnomalyEngine:
    """The engine with every part of its network computed by torch, not by what is the fastest."""
    assert isinstance(engine._scorer, TorchWindowScorer)
    for part in engine._scorer._network.modules():
        if isinstance(part, Part):
            part.way = PLAIN
    return engine


def largest(first: AnomalyFrame, second: AnomalyFrame) -> float:
    return float(np.abs(first.probability - second.probability).max())


@pytest.mark.parametrize("optimize", ["graph", "compile"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_and_compiled_kernels_give_what_single_operators_give(
    model: EoMTExt, optimize: str, precision: str
) -> None:
    plain = by_torch(AnomalyEngine(model, replace(EXACT, precision=precision, optimize="none")))
    fast = AnomalyEngine(model, replace(EXACT, precision=precision, optimize=optimize))
    assert fast.describe()["optimize"] == optimize
    tolerance = 1e-4 if precision == "fp32" else 0.03
    for image in CAMERAS:
        expected = plain.infer(image)
        for _ in range(3):  # a replay must not see what the last one left
            assert largest(fast.infer(image), expected) <= tolerance


@pytest.mark.parametrize("batch_windows", [1, 3, 16])
def test_several_cameras_at_once_are_what_each_alone_gives(model: EoMTExt, batch_windows: int) -> None:
    engine = AnomalyEngine(model, replace(EXACT, batch_windows=batch_windows))
    together = engine.infer_batch(CAMERAS, semantic=True)
    for frame, image in zip(together, CAMERAS, strict=True):
        alone = engine.infer_batch([image], semantic=True)[0]
        assert largest(frame, alone) <= 1e-3
        assert frame.semantic is not None
        assert (frame.semantic != alone.semantic).mean() < 0.01


def test_classes_agree_with_the_cpu(model: EoMTExt) -> None:
    on_gpu = AnomalyEngine(model, EXACT).infer_batch(CAMERAS, semantic=True)
    on_cpu = AnomalyEngine(model, replace(EXACT, device="cpu")).infer_batch(CAMERAS, semantic=True)
    for first, second in zip(on_gpu, on_cpu, strict=True):
        assert (first.semantic != second.semantic).mean() < 0.01


def in_flight(engine: AnomalyEngine, batches: Iterable[Sequence[NDArray[np.uint8]]]) -> Iterator[list[AnomalyFrame]]:
    """The frames of batches, of which one is submitted before the last one is collected."""
    submitted = deque[SubmittedBatch]()
    for batch in batches:
        submitted.append(engine.submit(batch, parts={"probability", "mask", "semantic"}))
        if len(submitted) == 2:
            yield engine.collect(submitted.popleft())
    yield engine.collect(submitted.popleft())


def test_batches_in_flight_give_what_each_gives_alone(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EXACT)
    batches = [CAMERAS[turn % 4 :] for turn in range(40)]
    alone = [engine.infer_batch(batch, semantic=True) for batch in batches]
    for frames, expected in zip(in_flight(engine, batches), alone, strict=True):
        for found, one in zip(frames, expected, strict=True):
            for name in ("probability", "mask", "semantic"):
                np.testing.assert_array_equal(getattr(found, name), getattr(one, name))


def test_confidence_is_the_rounded_probability(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EXACT)
    small = engine.collect(engine.submit(CAMERAS, parts={"confidence"}))
    for frame, whole in zip(small, engine.infer_batch(CAMERAS), strict=True):
        np.testing.assert_array_equal(frame.confidence, whole.confidence)


def test_steady_state_allocates_nothing(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EngineConfig(device="cuda"))
    for _ in in_flight(engine, [CAMERAS] * 10):
        pass
    before, held = torch.cuda.memory_stats(), torch.cuda.host_memory_stats()["num_host_alloc"]
    for _ in in_flight(engine, [CAMERAS] * 500):
        pass
    assert torch.cuda.host_memory_stats()["num_host_alloc"] == held
    after = torch.cuda.memory_stats()
    for name in ("num_device_alloc", "num_device_free", "num_alloc_retries"):
        assert after[name] == before[name], name
    for name in ("allocated_bytes.all.current", "reserved_bytes.all.current"):
        assert after[name] == before[name], name


def test_the_first_images_of_a_prepared_engine_allocate_nothing(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EngineConfig(device="cuda"))
    engine.prepare([image.shape[:2] for image in CAMERAS], semantic=True)
    held = torch.cuda.host_memory_stats()["num_host_alloc"]
    for _ in in_flight(engine, [CAMERAS] * 4):
        pass
    assert torch.cuda.host_memory_stats()["num_host_alloc"] == held


def test_the_host_waits_only_for_the_download(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EngineConfig(device="cuda"))
    engine.infer_batch(CAMERAS, semantic=True)
    torch.cuda.set_sync_debug_mode("error")  # raises at any implicit wait; that of an event is none
    try:
        for _ in in_flight(engine, [CAMERAS] * 4):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_frames_are_the_callers(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EXACT)
    first = engine.infer(CAMERAS[0])
    kept = first.probability.copy()
    for image in CAMERAS * 3:
        engine.infer(image)
    np.testing.assert_array_equal(first.probability, kept)


def test_memory_that_was_freed_is_taken_again(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EXACT)
    expected = engine.infer(CAMERAS[0])
    engine.free_memory()
    engine.config = replace(engine.config, batch_windows=1)
    assert largest(engine.infer(CAMERAS[0]), expected) <= 1e-3
