from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from eomt_ext_core import (
    AnomalyEngine,
    AnomalyFrame,
    ConfigError,
    EngineConfig,
    EoMTExt,
    HeadConfig,
    ImageError,
    InferenceError,
    WindowConfig,
    windows,
)
from eomt_ext_core.config import SCORES
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_probability, baseline_score, semantic_map

Make = Callable[..., EoMTExt]
EXACT = EngineConfig(device="cpu", precision="fp32")
WINDOWS = [
    WindowConfig(),
    WindowConfig(blend="hann"),
    WindowConfig(mode="grid", overlap=0.4, blend="hann"),
    WindowConfig(mode="grid", scale=0.6),
]


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth structure, so that resizing does not average everything away."""
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (fine * 255).byte().permute(1, 2, 0).contiguous().numpy()


@pytest.fixture(scope="module")
def model(tiny_model: Make) -> EoMTExt:
    return tiny_model(HeadConfig(16, 0.3, 8))


@pytest.fixture(scope="module")
def headless(tiny_model: Make) -> EoMTExt:
    return tiny_model()


@torch.no_grad()
def by_hand(model: EoMTExt, image: NDArray[np.uint8], config: WindowConfig, score: str = "head") -> NDArray[np.float32]:
    """A frame by the literal pieces, in the two-channel form of the reference where there is a head."""
    plan = windows.plan(image.shape[:2], model.config.crop_hw, config)
    resized = windows.resize(torch.from_numpy(image.copy()).permute(2, 0, 1), plan)
    masks, classes, features = model(windows.crop(resized, plan) / 255)
    if score == "head":
        logits = model.compute_anomaly_score(masks, classes, plan.crop_hw, features).permute(0, 3, 1, 2)
        stitched = windows.stitch(windows.to_two_channels(logits), plan)
        return windows.to_image_size(stitched, plan).softmax(dim=0)[1].numpy()
    scores = baseline_score(semantic_map(masks, classes, plan.crop_hw), score)[:, None]
    whole = windows.to_image_size(windows.stitch(scores, plan), plan)[0]
    return baseline_probability(whole, score, model.config.num_classes).numpy()


def largest(first: AnomalyFrame, second: AnomalyFrame | NDArray[np.float32]) -> float:
    other = second.probability if isinstance(second, AnomalyFrame) else second
    return float(np.abs(first.probability - other).max())


@pytest.mark.parametrize("config", WINDOWS, ids=lambda config: f"{config.mode}-{config.blend}-{config.scale}")
@pytest.mark.parametrize("size_hw", [(75, 200), (200, 75), (64, 96)])
def test_a_frame_is_what_the_literal_pieces_give(
    tiny_model: Make, head_config: HeadConfig, config: WindowConfig, size_hw: tuple[int, int]
) -> None:
    model, image = tiny_model(head_config), photo(*size_hw)
    frame = AnomalyEngine(model, replace(EXACT, windows=config)).infer(image)
    assert frame.probability.shape == size_hw
    assert frame.probability.dtype == np.float32
    assert frame.mask.dtype == np.bool_
    assert frame.probability.std() > 0.01
    assert largest(frame, by_hand(model, image, config)) <= 1e-5


@pytest.mark.parametrize("score", BASELINES)
def test_baselines_need_no_head(headless: EoMTExt, score: str) -> None:
    image = photo(75, 200)
    frame = AnomalyEngine(headless, replace(EXACT, score=score, threshold=0.5)).infer(image)
    assert np.isfinite(frame.probability).all()
    assert frame.probability.min() >= 0
    assert frame.probability.max() <= 1
    assert frame.probability.std() > 0
    assert largest(frame, by_hand(headless, image, WindowConfig(), score)) <= 1e-5


def test_a_batch_of_different_sizes_is_what_single_images_give(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, replace(EXACT, batch_windows=3))
    images = [photo(75, 200, 1), photo(64, 96, 2), photo(130, 41, 3), photo(1, 1, 4)]
    frames = engine.infer_batch(images)
    assert [frame.probability.shape for frame in frames] == [image.shape[:2] for image in images]
    for frame, image in zip(frames, images, strict=True):
        assert largest(frame, engine.infer(image)) <= 1e-6
    assert engine.infer_batch([]) == []


@pytest.mark.parametrize("score", ["head", "rba"])
def test_the_batch_size_changes_nothing(model: EoMTExt, score: str) -> None:
    image = photo(70, 420)
    first, *others = (
        AnomalyEngine(model, replace(EXACT, batch_windows=size, score=score, threshold=0.5)).infer(image)
        for size in (1, 2, 3, 16)
    )
    assert max(largest(first, other) for other in others) <= 1e-6


def test_any_memory_layout_is_accepted_and_left_as_it_is(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, EXACT)
    image = photo(64, 96)
    before = image.copy()
    expected = engine.infer(image)
    np.testing.assert_array_equal(image, before)
    read_only = image.copy()
    read_only.setflags(write=False)
    padded = np.zeros((70, 110, 3), np.uint8)
    padded[3:67, 5:101] = image
    views = {
        "read-only": read_only,
        "strided": padded[3:67, 5:101],
        "fortran": np.asfortranarray(image),
        "reversed twice": image[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    }
    for name, view in views.items():
        assert largest(engine.infer(view), expected) <= 1e-6, name
    np.testing.assert_array_equal(padded[3:67, 5:101], before)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 1), (2, 3)])
@pytest.mark.parametrize("mode", ["eomt", "grid"])
def test_tiny_images(model: EoMTExt, size_hw: tuple[int, int], mode: str) -> None:
    frame = AnomalyEngine(model, replace(EXACT, windows=WindowConfig(mode=mode))).infer(photo(*size_hw))
    assert frame.probability.shape == frame.mask.shape == size_hw
    assert np.isfinite(frame.probability).all()


def test_the_mask_is_cut_from_the_probability_at_the_threshold(model: EoMTExt) -> None:
    image = photo(75, 200)
    levels = np.unique(AnomalyEngine(model, EXACT).infer(image).probability.astype(np.float64))
    gaps = np.diff(levels)
    widest = len(levels) // 4 + int(gaps[len(levels) // 4 : 3 * len(levels) // 4].argmax())
    between = float(levels[widest] + gaps[widest] / 2)
    frame = AnomalyEngine(model, replace(EXACT, threshold=between)).infer(image)
    np.testing.assert_array_equal(frame.mask, frame.probability >= levels[widest + 1])
    assert 0 < frame.mask.sum() < frame.mask.size


@pytest.mark.parametrize("scores", [SCORES, ("rba", "head"), ("entropy",)])
def test_several_scores_from_one_pass_are_what_each_alone_gives(model: EoMTExt, scores: tuple[str, ...]) -> None:
    image = photo(75, 200)
    maps = AnomalyEngine(model, EXACT).score_maps(image, scores)
    assert tuple(maps) == scores
    for score, probability in maps.items():
        alone = AnomalyEngine(model, replace(EXACT, score=score, threshold=0.5)).infer(image)
        assert largest(alone, probability) <= 1e-6, score


@pytest.mark.parametrize("scores", [(), ("rba", "rba"), ("rba", "mps")])
def test_scores_that_cannot_be_are_refused(model: EoMTExt, scores: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="scores must be different names out of"):
        AnomalyEngine(model, EXACT).score_maps(photo(64, 96), scores)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        [[[0, 0, 0]]],
        None,
    ],
)
def test_what_is_no_rgb_image_is_refused(model: EoMTExt, image: Any) -> None:
    with pytest.raises(ImageError, match="an image must be") as caught:
        AnomalyEngine(model, EXACT).infer(image)
    assert caught.value.reason == "shape"


def test_an_image_without_pixels_is_refused(model: EoMTExt) -> None:
    with pytest.raises(ImageError, match="at least one pixel") as caught:
        AnomalyEngine(model, EXACT).infer(np.zeros((0, 8, 3), np.uint8))
    assert caught.value.reason == "empty"


def test_too_many_windows_are_refused_before_any_work(model: EoMTExt) -> None:
    engine = AnomalyEngine(model, replace(EXACT, max_windows=3))
    assert engine.infer(photo(64, 288)).probability.shape == (64, 288)
    with pytest.raises(ImageError, match=r"max_windows = 3 windows, a 289×64 one needs 4") as caught:
        engine.infer(photo(64, 289))
    assert caught.value.reason == "dimensions"
    with pytest.raises(ImageError, match="needs 1000"):
        AnomalyEngine(model, EXACT).infer(np.zeros((1, 1500, 3), np.uint8))


@pytest.mark.parametrize("device", ["cuda:99", "cuda"])
def test_a_device_that_is_not_there(model: EoMTExt, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=f"device {device} does not exist: torch sees 0 CUDA devices"):
        AnomalyEngine(model, EngineConfig(device=device))


def test_the_head_cannot_score_where_there_is_none(headless: EoMTExt) -> None:
    with pytest.raises(
        ConfigError, match=r"this one has none: choose .*msp, max_logit, entropy, energy, rba, msp_prob, entropy_prob"
    ):
        AnomalyEngine(headless, EXACT)


@pytest.mark.parametrize("score", SCORES)
def test_a_network_that_is_not_finite_is_an_error(tiny_model: Make, score: str) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    with torch.no_grad():
        model.network.q.weight[2, 5] = float("nan")
    with pytest.raises(InferenceError, match=r"must be finite, got 1500 pixels that are not \(precision fp32 on cpu\)"):
        AnomalyEngine(model, replace(EXACT, score=score, threshold=0.5)).infer(photo(30, 50))


@pytest.mark.parametrize("bias", [float("inf"), float("-inf")])
def test_infinite_logit_is_an_error(tiny_model: Make, bias: float) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    assert model.anomaly_head is not None
    with torch.no_grad():
        model.anomaly_head.mlp[6].bias.fill_(bias)
    with pytest.raises(InferenceError, match="must be finite"):
        AnomalyEngine(model, EXACT).infer(photo(30, 50))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_logit_for_every_pixel_is_an_error(tiny_model: Make, precision: str) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    assert model.anomaly_head is not None
    with torch.no_grad():
        model.anomaly_head.mlp[6].bias.fill_(-1e30)  # finite, and larger than all that the pixels differ by
    engine = AnomalyEngine(model, replace(EXACT, precision=precision))
    rule = "must depend on the image, got the score -1e[+]30 for every pixel"
    with pytest.raises(InferenceError, match=rule):
        engine.infer(photo(30, 50))
    with pytest.raises(InferenceError, match=rule):
        engine.score_maps(photo(30, 50), ("rba", "head"))
    with pytest.raises(InferenceError, match=rule):
        engine.infer_batch([photo(30, 50), photo(64, 96)], semantic=True)
    assert engine.score_maps(photo(30, 50), ("rba",))["rba"].std() > 0
    assert engine.infer(np.full((30, 50, 3), 9, np.uint8)).probability.max() == 0  # nothing there that could differ


def test_the_model_is_left_as_it_is(tiny_model: Make) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8)).train()
    assert model.anomaly_head is not None
    image = photo(64, 96)
    frame = AnomalyEngine(model, EXACT).infer(image)
    assert model.training
    assert model.anomaly_head.training
    assert all(parameter.grad_fn is None and not parameter.is_inference() for parameter in model.parameters())
    assert largest(AnomalyEngine(model.eval(), EXACT).infer(image), frame) == 0


def test_a_half_precision_model_runs_in_single_precision(tiny_model: Make) -> None:
    model = tiny_model(HeadConfig(16, 0.3, 8)).to(torch.bfloat16)
    engine = AnomalyEngine(model, EXACT)
    assert engine.precision == "fp32"
    assert np.isfinite(engine.infer(photo(64, 96)).probability).all()
    assert next(model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close(model: EoMTExt, precision: str) -> None:
    image = photo(75, 200)
    exact = AnomalyEngine(model, EXACT).infer(image)
    rough = AnomalyEngine(model, EngineConfig(device="cpu", precision=precision)).infer(image)
    difference = np.abs(rough.probability - exact.probability)
    assert rough.probability.dtype == np.float32
    assert 0 < difference.mean() < 0.02


def test_a_compiled_network_gives_what_single_operators_give(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the tracer alone: to generate code takes minutes on a CPU."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    model = tiny_model(HeadConfig(16, 0.3, 8), num_blocks=1)
    plain, compiled = (AnomalyEngine(model, replace(EXACT, optimize=name)) for name in ("none", "compile"))
    assert compiled.describe()["optimize"] == "compile"
    image = photo(75, 200)
    assert largest(compiled.infer(image), plain.infer(image)) <= 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("score", SCORES)
def test_the_gpu_agrees_with_the_cpu(model: EoMTExt, score: str) -> None:
    image = photo(75, 200)
    on_cpu = AnomalyEngine(model, replace(EXACT, score=score, threshold=0.5)).infer(image)
    on_gpu = AnomalyEngine(model, EngineConfig(device="cuda", score=score, precision="fp32", threshold=0.5)).infer(
        image
    )
    assert largest(on_gpu, on_cpu) <= 1e-3
    assert next(model.parameters()).device.type == "cpu"


@pytest.mark.gpu
def test_the_gpu_takes_bf16_by_itself_and_stays_close(model: EoMTExt) -> None:
    engine = AnomalyEngine(model)
    assert (engine.device.type, engine.precision) == ("cuda", "bf16")
    image = photo(75, 200)
    exact = AnomalyEngine(model, EXACT).infer(image)
    assert np.abs(engine.infer(image).probability - exact.probability).mean() < 0.02
