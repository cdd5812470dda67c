import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eomt_ext_core import (
    AnomalyEngine,
    CheckpointError,
    ConfigError,
    EngineConfig,
    EoMTExt,
    HeadConfig,
    WindowConfig,
    save_model,
)

Make = Callable[..., EoMTExt]
EXACT = EngineConfig(device="cpu", precision="fp32")
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 120, 3), dtype=np.uint8)


@pytest.fixture
def checkpoint(tiny_model: Make, tmp_path: Path) -> Path:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    model.info = {"class_names": ["road", "car", "sky", "tree", "house"]}
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_an_engine_of_a_file_says_what_it_is(checkpoint: Path, tiny_model: Make) -> None:
    engine = AnomalyEngine.load(checkpoint, replace(EXACT, score_stride=2))
    told = engine.describe()
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (told["checkpoint"], told["checkpoint_sha256"]) == (str(checkpoint), digest)
    assert told["scoring"].startswith("torch (")
    known = {"device": "cpu", "precision": "fp32", "backend": "torch", "optimize": "none", "crop": "96×64"}
    known |= {"windows": "eomt", "score": "head", "score_stride": "2"}
    assert {name: told[name] for name in known} == known
    assert told["device_name"]
    assert engine.class_names == ("road", "car", "sky", "tree", "house")
    engine.free_memory()
    model = tiny_model(HeadConfig(16, 0.3, 8))
    expected = AnomalyEngine(model, replace(EXACT, score_stride=2)).infer(IMAGE)
    np.testing.assert_array_equal(engine.infer(IMAGE).probability, expected.probability)


def test_a_separate_head_is_loaded_and_named(checkpoint: Path, tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(HeadConfig(8, 0.3, None), seed=1), tmp_path / "head.safetensors")
    engine = AnomalyEngine.load(checkpoint, EXACT, tmp_path / "head.safetensors")
    assert engine.describe()["head"] == str(tmp_path / "head.safetensors")
    assert not np.array_equal(engine.infer(IMAGE).probability, AnomalyEngine.load(checkpoint, EXACT).infer(IMAGE).mask)


def test_what_cannot_be_loaded(checkpoint: Path, tiny_model: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        AnomalyEngine.load(tmp_path / "nowhere.onnx", EngineConfig(backend="onnxruntime"))
    with pytest.raises(ConfigError, match="an exported file holds its head"):
        AnomalyEngine.load(checkpoint, EngineConfig(backend="onnxruntime"), checkpoint)
    with pytest.raises(ConfigError, match=r"not a model: use AnomalyEngine\.load"):
        AnomalyEngine(tiny_model(HeadConfig(16, 0.3, 8)), EngineConfig(backend="onnxruntime"))
    with pytest.raises(ConfigError, match="score_stride must be 1, 2 or 4, got 3"):
        EngineConfig(score_stride=3)


def test_a_running_engine_takes_what_may_change(checkpoint: Path) -> None:
    engine = AnomalyEngine.load(checkpoint, EXACT)
    frame = engine.infer(IMAGE)
    engine.config = replace(engine.config, threshold=0.0, batch_windows=2)
    assert engine.infer(IMAGE).mask.all()
    assert not frame.mask.all()
    engine.config = replace(engine.config, score="rba", threshold=0.0)
    expected = AnomalyEngine.load(checkpoint, replace(EXACT, score="rba", threshold=0.0)).infer(IMAGE)
    np.testing.assert_array_equal(engine.infer(IMAGE).probability, expected.probability)
    for windows in (WindowConfig(mode="grid", scale=0.5), WindowConfig(blend="hann")):
        engine.config = replace(engine.config, windows=windows)
        expected = AnomalyEngine.load(checkpoint, replace(EXACT, score="rba", threshold=0.0, windows=windows)).infer(
            IMAGE
        )
        np.testing.assert_array_equal(engine.infer(IMAGE).probability, expected.probability)
    with pytest.raises(ConfigError, match=r"^precision, score_stride, max_windows cannot change in a running engine"):
        engine.config = replace(engine.config, precision="bf16", score_stride=2, max_windows=7)
    assert engine.config.score_stride == 1


def test_a_call_may_run_under_another_configuration(checkpoint: Path) -> None:
    engine = AnomalyEngine.load(checkpoint, EXACT)
    (frame,) = engine.infer_batch([IMAGE], config=replace(EXACT, score="rba", threshold=0.0))
    expected = AnomalyEngine.load(checkpoint, replace(EXACT, score="rba", threshold=1.0)).infer(IMAGE)
    np.testing.assert_array_equal(frame.probability, expected.probability)
    assert frame.mask.all()
    assert engine.config is EXACT
    assert engine.threshold_of(replace(EXACT, threshold=0.25)) == 0.25
    with pytest.raises(ConfigError, match=r"precision cannot change in a running engine"):
        engine.infer_batch([IMAGE], config=replace(EXACT, precision="bf16"))


class ConstantScorer:
    """Anything may score windows: this one knows three classes and no network."""

    crop_hw = (8, 8)
    num_classes = 3
    class_names = ("a", "b", "c")
    info: dict[str, Any] = {}  # noqa: RUF012
    device = torch.device("cpu")
    precision = "fp32"
    max_batch = 2

    def __init__(self, scores: tuple[str, ...]) -> None:
        self.scores = scores
        self.batches: list[int] = []
        self.warmed: tuple[str | int, ...] = ()
        self.fitting = 0

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        self.batches.append(len(crops))
        levels = {"head": [2.0], "semantic": [0.2, 0.7, 0.1]}
        values = torch.tensor([value for score in scores for value in levels[score]])
        return values[:, None, None].expand(len(crops), -1, *self.crop_hw)

    def describe(self) -> dict[str, str]:
        return {"backend": "constant"}

    def warm_up(self, scores: Sequence[str], batch: int) -> int:
        self.warmed = (*scores, batch)
        return self.fitting or batch

    def is_warm(self, scores: Sequence[str], batch: int) -> bool:
        return self.warmed == (*scores, batch)

    def free_memory(self) -> None: ...


def test_any_scorer_runs_in_batches_that_it_takes() -> None:
    scorer = ConstantScorer(("head", "semantic"))
    engine = AnomalyEngine(scorer, EXACT)
    assert scorer.warmed == ("head", 2)
    assert scorer.batches == [1], "a blank frame"
    frame = engine.infer_batch([np.zeros((8, 40, 3), np.uint8)], semantic=True)[0]
    assert scorer.batches == [1, 2, 2, 1]
    np.testing.assert_allclose(frame.probability, 1 / (1 + np.exp(-2.0)), rtol=1e-6)
    assert frame.semantic is not None
    assert (frame.semantic == 1).all()
    assert engine.has_semantic
    assert engine.describe()["backend"] == "constant"


def test_semantic_classes_are_warmed_up_on_request() -> None:
    scorer = ConstantScorer(("head", "semantic"))
    AnomalyEngine(scorer, EXACT).warm_up(semantic=True)
    assert scorer.warmed == ("head", "semantic", 2)
    assert scorer.batches == [1, 1]


def test_warm_up_finds_the_windows_that_fit() -> None:
    scorer = ConstantScorer(("head", "semantic"))
    assert AnomalyEngine(scorer, EXACT).fitting_windows is None
    scorer.fitting = 1
    engine = AnomalyEngine(scorer, EXACT)
    assert engine.fitting_windows == 1
    engine.warm_up(semantic=True)
    assert (scorer.warmed[-1], engine.fitting_windows) == (1, 1), "no more is tried than has fitted"


def test_description_follows_the_configuration() -> None:
    engine = AnomalyEngine(ConstantScorer(("head", "rba")), EXACT)
    assert (engine.describe()["score"], engine.describe(replace(EXACT, score="rba"))["score"]) == ("head", "rba")


def test_what_a_scorer_does_not_offer_is_refused() -> None:
    engine = AnomalyEngine(ConstantScorer(("head",)), EXACT)
    assert not engine.has_semantic
    with pytest.raises(ConfigError, match="the known classes are not in the exported file"):
        engine.warm_up(semantic=True)
    with pytest.raises(ConfigError, match="the known classes are not in the exported file"):
        engine.infer_batch([np.zeros((8, 8, 3), np.uint8)], semantic=True)
    with pytest.raises(ConfigError, match="score 'rba' is not in the exported file: choose from head"):
        engine.config = replace(EXACT, score="rba")


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize("which", ["checkpoint", "head"])
def test_who_may_not_download_is_not_told_of_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, which: str
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("it was asked for"))
    config = replace(EXACT, backend=backend)

    def load(source: object, download: bool) -> str:
        sources = (checkpoint, source) if which == "head" and backend == "torch" else (source, None)
        with pytest.raises(CheckpointError) as caught:
            AnomalyEngine.load(sources[0], config, sources[1], download=download)  # type: ignore[arg-type]
        return str(caught.value)

    assert "hf://owner/name" in load(tmp_path / "nowhere", download=True)
    assert load(tmp_path / "nowhere", download=False).endswith("give a local checkpoint or 'demo'")
    refusal = "hf://owner/name: nothing is downloaded here: give a local file or folder"
    assert load("hf://owner/name", download=False) == refusal
