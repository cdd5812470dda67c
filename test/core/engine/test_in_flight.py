"""Batches that are submitted before the last one is collected."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from eomt_ext_core import (
    AnomalyEngine,
    AnomalyFrame,
    ConfigError,
    EngineConfig,
    EoMTExt,
    HeadConfig,
    ImageError,
    InferenceError,
)
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer

Make = Callable[..., EoMTExt]
CPU = torch.device("cpu")
EXACT = EngineConfig(device="cpu", precision="fp32")
BATCHES = [
    [np.random.default_rng(seed + 10 * turn).integers(0, 256, (*size, 3), dtype=np.uint8) for seed, size in sizes]
    for turn, sizes in enumerate([[(0, (75, 200)), (1, (64, 96))], [(0, (75, 200))], [(2, (130, 41)), (3, (64, 96))]])
]


@pytest.fixture(scope="module")
def model(tiny_model: Make) -> EoMTExt:
    return tiny_model(HeadConfig(16, 0.3, 8))


@pytest.fixture
def engine(model: EoMTExt) -> AnomalyEngine:
    return AnomalyEngine(model, EXACT)


def test_batches_in_flight_give_what_each_gives_alone(engine: AnomalyEngine) -> None:
    alone = [engine.infer_batch(batch) for batch in BATCHES]
    first, second = engine.submit(BATCHES[0]), engine.submit(BATCHES[1])
    frames = [engine.collect(first)]
    third = engine.submit(BATCHES[2])
    frames += [engine.collect(second), engine.collect(third)]
    for found, expected in zip(chain(*frames), chain(*alone), strict=True):
        np.testing.assert_array_equal(found.probability, expected.probability)
        np.testing.assert_array_equal(found.mask, expected.mask)
    assert engine.collect(engine.submit([])) == []


def test_a_change_between_submit_and_collect_is_for_the_next_batch(engine: AnomalyEngine) -> None:
    (before,) = engine.infer_batch(BATCHES[1])
    submitted = engine.submit(BATCHES[1])
    engine.config = replace(EXACT, threshold=0.0, score="rba")
    (frame,) = engine.collect(submitted)
    np.testing.assert_array_equal(frame.probability, before.probability)
    np.testing.assert_array_equal(frame.mask, before.mask)
    assert engine.infer_batch(BATCHES[1])[0].mask.all()


def test_an_error_is_that_of_its_batch(model: EoMTExt) -> None:
    class SometimesBroken(TorchWindowScorer):
        def __call__(self, crops: torch.Tensor, scores: object) -> torch.Tensor:
            if (crops == 7).all():
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().__call__(crops, ("head",)) / (crops != 9).any()  # not finite

    engine = AnomalyEngine(SometimesBroken(model, CPU), EXACT)
    (expected,) = engine.infer_batch(BATCHES[1])
    first = engine.submit(BATCHES[1])
    with pytest.raises(ImageError, match="must be"):
        engine.submit([BATCHES[1][0], np.zeros((4, 4), np.uint8)])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        engine.submit([np.full((64, 96, 3), 7, np.uint8)])
    broken = engine.submit([np.full((64, 96, 3), 9, np.uint8)])
    np.testing.assert_array_equal(engine.collect(first)[0].probability, expected.probability)
    last = engine.submit(BATCHES[1])
    with pytest.raises(InferenceError, match="got 6144 pixels that are not"):
        engine.collect(broken)
    np.testing.assert_array_equal(engine.collect(last)[0].probability, expected.probability)


def test_a_frame_holds_what_it_was_submitted_for(engine: AnomalyEngine) -> None:
    images = BATCHES[0]
    whole = engine.infer_batch(images, semantic=True)
    small = engine.collect(engine.submit(images, parts={"confidence", "semantic"}))
    for frame, expected in zip(small, whole, strict=True):
        assert (frame.confidence.dtype, frame.confidence.shape) == (np.uint8, expected.probability.shape)
        np.testing.assert_array_equal(frame.confidence, expected.confidence)
        np.testing.assert_array_equal(frame.semantic, expected.semantic)
        with pytest.raises(ConfigError, match="add probability to parts"):
            _ = frame.probability
        with pytest.raises(ConfigError, match="add mask to parts"):
            _ = frame.mask
    assert len(engine.collect(engine.submit(images, parts=()))) == len(images)


def test_a_missing_threshold_is_noticed_before_the_network_runs(model: EoMTExt) -> None:
    class Counting(TorchWindowScorer):
        calls = 0

        def __call__(self, crops: torch.Tensor, scores: Sequence[str]) -> torch.Tensor:
            self.calls += 1
            return super().__call__(crops, scores)

    scorer = Counting(model, CPU)
    engine = AnomalyEngine(scorer, replace(EXACT, score="rba"))
    before = scorer.calls
    with pytest.raises(ConfigError, match="score rba needs a threshold"):
        engine.submit(BATCHES[0])
    with pytest.raises(ConfigError, match="score rba needs a threshold"):
        engine.submit([])
    assert scorer.calls == before
    assert len(engine.collect(engine.submit(BATCHES[0], parts={"probability"}))) == len(BATCHES[0])


def test_confidence_is_rounded_alike_by_torch_and_opencv() -> None:
    halves = ((np.arange(255) + 0.5) / 255).astype(np.float32)
    beside = [np.nextafter(halves, np.float32(end)) for end in (0, 1)]
    anything = np.random.default_rng(0).random(99_000, np.float32)
    probability = np.concatenate([halves, *beside, anything, [0, 1]], dtype=np.float32)
    rounded = (torch.from_numpy(probability) * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(rounded, AnomalyFrame(probability[None]).confidence[0])
