"""From a drive to a file to scores of the engine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from eomt_ext_core import AnomalyEngine, CheckpointError, ConfigError, EngineConfig, EoMTExt, HeadConfig
from eomt_ext_core.cli import app
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.files import sha256_of
from eomt_ext_core.model.checkpoint import save_model
from eomt_ext_core.normality.drives import ImageDrive
from eomt_ext_core.normality.learn_config import LearnConfig
from eomt_ext_core.normality.learning import HeldOutScores, Sample, learn_normality
from eomt_ext_core.normality.normal_file import load_normality, save_normality
from eomt_ext_core.normality.normality import Normality, Reading
from eomt_ext_core.normality.patch_distance import PatchDistance

DIM = 32  # of the tiny model's features
CPU = EngineConfig(device="cpu", precision="fp32")


def image(seed: int, spot: bool = False) -> np.ndarray:
    """A road of grey noise; with something of another colour on it."""
    pixels = np.random.default_rng(seed).integers(90, 120, (64, 96, 3), dtype=np.uint8)
    if spot:
        pixels[24:40, 40:56] = (250, 20, 200)
    return pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drive")
    for number in range(60):
        cv2.imwrite(str(folder / f"{number:03d}.png"), image(number))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiny_model: Callable[..., EoMTExt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), path)
    return path


@pytest.fixture(scope="module")
def learnt(folder: Path, checkpoint: Path) -> Path:
    path = checkpoint.with_name("normal.safetensors")
    options = ["--checkpoint", str(checkpoint), "--output", str(path), "--device", "cpu", "--precision", "fp32"]
    result = CliRunner().invoke(app, ["learn-normal", str(folder), *options, "--held-out", "0.5"])
    assert result.exit_code == 0, result.output
    assert "from 30 images" in result.output
    return path


@pytest.fixture(scope="module")
def engine(checkpoint: Path, learnt: Path) -> AnomalyEngine:
    return AnomalyEngine.load(checkpoint, CPU, normality=learnt)


def test_what_the_drive_never_showed_stands_out(engine: AnomalyEngine) -> None:
    probability = engine.score_maps(image(100, spot=True), ("normality",))["normality"]
    assert np.median(probability) < 0.5  # random weights carry a little of the spot everywhere
    assert probability[28:36, 44:52].min() > 0.9


def test_fused_adds_the_head_as_it_was_fitted(engine: AnomalyEngine) -> None:
    distances, logits = engine.distances(image(1, spot=True))
    reading = engine.normality.readings["fused"]
    assert reading.head > 0
    expected = reading.head * logits + reading.distance * distances + reading.shift
    fused = engine.score_maps(image(1, spot=True), ("fused",))["fused"]
    np.testing.assert_allclose(fused, 1 / (1 + np.exp(-expected)), atol=1e-5)


def test_false_alarm_rate_on_ordinary_images(engine: AnomalyEngine) -> None:
    alarms = np.mean([engine.score_maps(image(200 + k), ("normality",))["normality"] > 0.5 for k in range(30)])
    assert alarms < 10 * LearnConfig.false_alarm_rate


def test_scores_are_the_same_alone_and_together(engine: AnomalyEngine) -> None:
    names = ("fused", "rba", "normality", "head")
    together = engine.score_maps(image(1, spot=True), names)
    for name in names:
        config = EngineConfig("cpu", precision="fp32", score=name, threshold=0.5)
        alone = engine.infer_batch([image(1, spot=True)], config=config)
        np.testing.assert_array_equal(together[name], alone[0].probability)


def test_a_watched_frame_says_how_strange_it_is(engine: AnomalyEngine) -> None:
    unwatched = replace(CPU, drift_alpha=0.0)
    plain, frame = (engine.infer_batch([image(1)], semantic=True, config=config)[0] for config in (unwatched, CPU))
    assert plain.strangeness is None
    assert frame.strangeness == pytest.approx(float(engine.distances(image(1))[0].mean()), rel=1e-5)
    np.testing.assert_array_equal(frame.probability, plain.probability)
    np.testing.assert_array_equal(frame.semantic, plain.semantic)


def test_the_file_is_small_and_refused_by_another_checkpoint(
    learnt: Path, tiny_model: Callable[..., EoMTExt], tmp_path: Path
) -> None:
    assert learnt.stat().st_size < 1e6
    other = tmp_path / "other.safetensors"
    save_model(tiny_model(HeadConfig(16, 0.3, 4)), other)
    with pytest.raises(CheckpointError, match=r"normal.safetensors: it was learnt with another model"):
        AnomalyEngine.load(other, CPU, normality=learnt)


def test_without_a_file_the_scores_and_the_distance_are_refused(checkpoint: Path) -> None:
    engine = AnomalyEngine.load(checkpoint, CPU)
    with pytest.raises(ConfigError, match="'fused' needs a file of `eomt-ext learn-normal`"):
        engine.score_maps(image(0), ("fused",))
    with pytest.raises(ConfigError, match="learn-normal"):
        engine.distances(image(0))
    assert engine.infer(image(0)).strangeness is None
    with pytest.raises(ConfigError, match="an exported file does not hold"):
        ExportConfig(scores=("normality",))


def test_a_model_without_a_head_has_normality_alone(tiny_model: Callable[..., EoMTExt], folder: Path) -> None:
    model = tiny_model(None)
    config = EngineConfig(device="cpu", precision="fp32", score="rba")
    drive = ImageDrive("drive", sorted(folder.iterdir())[:8])
    normality = learn_normality([drive], lambda known: AnomalyEngine(model, config, known), {}, LearnConfig())
    assert list(normality.readings) == ["normality"]
    assert normality.drift is None
    assert "fused" not in AnomalyEngine(model, config, normality).scorer.scores


def test_a_single_image_is_enough(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    options = ["--reference", str(folder / "000.png"), "--checkpoint", str(checkpoint), "--output", str(path)]
    result = CliRunner().invoke(app, ["learn-normal", *options, "--device", "cpu", "--precision", "fp32"])
    assert result.exit_code == 0, result.output
    assert "it takes 20, got 1: give a longer drive" in result.output
    engine = AnomalyEngine.load(checkpoint, CPU, normality=path)
    found = engine.distances(image(100, spot=True))[0]
    assert found[28:36, 44:52].mean() > 1.5 * np.median(found)


def test_false_alarms_on_the_held_out_pixels_are_those_asked_for() -> None:
    pixels = torch.randn(2, 200, 500, generator=torch.Generator().manual_seed(0))
    scores = HeldOutScores()
    scores.add(pixels)
    for name, reading in scores.fit(0.01).items():
        logits = reading(pixels[1] if name == "fused" else None, pixels[0])
        assert float((logits > 0).float().mean()) == pytest.approx(0.01, abs=0.005)
        assert float(logits.median()) == pytest.approx(-5, abs=0.3)


def test_a_sample_is_bounded_uniform_and_the_same_again() -> None:
    samples = [Sample(500), Sample(500)]
    for sample in samples:
        for start in range(0, 10_000, 100):
            sample.add(torch.arange(start, start + 100.0)[:, None])
    first, second = (sample.rows for sample in samples)
    assert len(first) == 500
    assert first.equal(second)
    assert float(first.mean()) == pytest.approx(5000, abs=500)


def valid(path: Path) -> tuple[Path, Normality]:
    normality = Normality(
        PatchDistance(torch.eye(DIM), torch.zeros(2, DIM)), {"normality": Reading(0, 1, 0)}, {"checkpoint_sha256": "a"}
    )
    save_normality(normality, path)
    return path, normality


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path, normality = valid(tmp_path / "n.safetensors")
    again = load_normality(path, DIM, {"checkpoint_sha256": "a"})
    assert again.readings == normality.readings
    assert again.distance.whitening.equal(normality.distance.whitening)


HOSTILE = {
    "another number of channels": {"whitening": torch.eye(DIM + 1)},
    "not finite": {"prototypes": torch.full((2, DIM), torch.nan)},
    "whole numbers": {"prototypes": torch.zeros(2, DIM, dtype=torch.int64)},
    "no table": {"prototypes": torch.zeros(DIM)},
    "nothing in it": {"prototypes": torch.zeros(0, DIM)},
    "one more": {"more": torch.zeros(1)},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, change: dict[str, torch.Tensor]) -> None:
    from safetensors import safe_open

    path, _ = valid(tmp_path / "n.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), **change}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"n\.safetensors"):
        load_normality(path, DIM, {"checkpoint_sha256": "a"})


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"version": 2}',
        '{"version": 1, "origin": {"checkpoint_sha256": "a"}, "readings": {"head": {}}, "about": {}}',
        '{"version": 1, "origin": {"checkpoint_sha256": "a"}, "readings": {"normality": 1}, "about": {}}',
        '{"version": 1, "origin": {"checkpoint_sha256": "a"}, "about": {}, '
        '"readings": {"normality": {"head": 0, "distance": 0, "shift": 0}}}',
        '{"version": 1, "origin": {"checkpoint_sha256": "a"}, "about": {}, '
        '"readings": {"normality": {"head": 0, "distance": "1", "shift": 0}}}',
    ],
)
def test_hostile_metadata_is_refused(tmp_path: Path, text: str) -> None:
    path, _ = valid(tmp_path / "n.safetensors")
    save_file(load_file(path), path, metadata={"eomt_ext_normality": text})
    with pytest.raises(CheckpointError, match=r"n\.safetensors"):
        load_normality(path, DIM, {"checkpoint_sha256": "a"})


def test_a_checkpoint_is_no_normality(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="learn-normal"):
        load_normality(checkpoint, DIM, {"checkpoint_sha256": sha256_of(checkpoint)})
