import math
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from eomt_ext_training import calibrate_command
from eomt_ext_training.calibrate_command import calibrate
from eomt_ext_training.calibration import BIN_WIDTH, LogitCounts, MaskRates, frames_needed, threshold_of
from eomt_ext_training.held_out import HeldOutFrames
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from eomt_ext_core.config import EngineConfig, HeadConfig, ModelConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.errors import CheckpointError, ConfigError, DatasetError, EomtExtError
from eomt_ext_core.evaluation import Calibration
from eomt_ext_core.model.checkpoint import load_model, save_model
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scenes import OBSTACLE_FAMILIES
from eomt_ext_core.scoring.calibration import LogitCalibration

Frames = list[tuple[NDArray[np.float32], NDArray[np.uint8]]]


def frames_of(count: int, seed: int, scale: float = 1.0, shift: float = 0.0, size: int = 400) -> Frames:
    """Frames whose logits L say P(anomaly) = sigmoid(scale · L + shift) exactly; some pixels are void."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        calibrated = rng.normal(-2.0 + rng.normal(0, 0.7), 2.0, size)
        labels = (rng.random(size) < 1 / (1 + np.exp(-calibrated))).astype(np.uint8)
        labels[rng.random(size) < 0.05] = 255
        frames.append((((calibrated - shift) / scale).astype(np.float32), labels))
    return frames


def counts_of(frames: Frames) -> LogitCounts:
    counts = LogitCounts()
    for logits, labels in frames:
        counts.add(logits, labels)
    return counts


def test_the_shift_of_pos_weight_is_found() -> None:
    counts = counts_of(frames_of(100, 0, shift=-math.log(10), size=4000))  # trained logits are about log 10 too high
    fitted = counts.fit()
    assert fitted.scale == pytest.approx(1.0, abs=0.03)
    assert fitted.shift == pytest.approx(-math.log(10), abs=0.05)
    before, after = counts.reliability(1, 0), counts.reliability(fitted.scale, fitted.shift)
    assert after.ece < 0.05 * before.ece


def test_scale_and_shift_are_those_of_logistic_regression() -> None:
    frames = frames_of(20, 1, scale=2.5, shift=1.2)
    fitted = counts_of(frames).fit()
    logits, labels = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    reference = LogisticRegression(C=1e12, tol=1e-10).fit(logits[labels != 255, None], labels[labels != 255])
    assert fitted.scale == pytest.approx(reference.coef_[0, 0], rel=2e-3)
    assert fitted.shift == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_reliability_is_that_of_the_evaluation() -> None:
    frames = frames_of(10, 2)
    literal = Calibration()
    for logits, labels in frames:
        literal.update(1 / (1 + np.exp(-0.5 * logits + 1)), labels)
    ours, theirs = counts_of(frames).reliability(0.5, -1.0), literal.compute()
    assert ours.ece == pytest.approx(theirs.ece, abs=2e-3)
    assert sum(ours.num_pixels) == sum(theirs.num_pixels)
    assert ours.bin_edges == theirs.bin_edges


def literal_threshold(frames: Frames, target: str) -> float:
    """The largest multiple of the bin width that conformal risk control allows, looked for one by one."""
    alpha = 1 - Fraction(target)
    anomalous = [logits[labels == 1] for logits, labels in frames if (labels == 1).any()]
    best = -math.inf
    for step in range(-800, 800):
        candidate = step * BIN_WIDTH
        losses = [Fraction(int((values <= candidate).sum()), values.size) for values in anomalous]
        if (sum(losses) + 1) / (len(losses) + 1) <= alpha:
            best = candidate
    return best


@pytest.mark.parametrize("target", ["0.95", "0.9", "0.8", "0.5"])
def test_the_threshold_is_that_of_a_literal_search(target: str) -> None:
    frames = frames_of(40, 3, size=120)
    assert counts_of(frames).choose_logit_threshold(float(target)) == literal_threshold(frames, target)


def test_missed_fraction_stays_below_the_guarantee() -> None:
    """Monte Carlo over calibration sets: the mean miss of a fresh frame is at most 1 - target, and not far below."""
    missed = []
    for trial in range(150):
        frames = frames_of(31, 100 + trial, size=150)
        threshold = counts_of(frames[:30]).choose_logit_threshold(0.8)
        fresh = frames[30][0][frames[30][1] == 1]
        missed.append(float((fresh <= threshold).mean()) if fresh.size else 0.0)
    error = np.std(missed) / np.sqrt(len(missed))
    assert np.mean(missed) <= 0.2 + 2 * error
    assert np.mean(missed) >= 0.2 - 1 / 31 - 0.02 - 2 * error


@pytest.mark.parametrize(("target", "needed"), [(0.95, 19), (0.9, 9), (0.99, 99), (0.5, 1), (0.3, 1), (0.97, 33)])
def test_how_many_frames_a_target_needs(target: float, needed: int) -> None:
    assert frames_needed(target) == needed
    alpha = 1 - Fraction(str(target))
    assert Fraction(1, needed + 1) <= alpha
    assert needed == 1 or Fraction(1, needed) > alpha


def test_too_few_frames_are_an_error_that_says_how_many() -> None:
    frames = frames_of(18, 4)
    clear = [(logits, np.zeros_like(labels)) for logits, labels in frames_of(30, 5)]  # these do not count
    with pytest.raises(DatasetError, match=r"0\.95 needs at least 19 frames with anomalies, got 18"):
        counts_of(frames + clear).choose_logit_threshold(0.95)
    assert counts_of(frames_of(19, 4)).choose_logit_threshold(0.95) > -math.inf


def test_frames_without_anomalies_move_the_fit_but_not_the_threshold() -> None:
    frames, clear = frames_of(30, 6), [(logits, np.zeros_like(labels)) for logits, labels in frames_of(30, 7)]
    alone, both = counts_of(frames), counts_of(frames + clear)
    assert alone.choose_logit_threshold(0.9) == both.choose_logit_threshold(0.9)
    assert both.fit().shift < alone.fit().shift


@pytest.mark.parametrize("target", [0.0, 1.0, 1.5, float("nan")])
def test_the_target_is_a_share(target: float) -> None:
    with pytest.raises(ConfigError, match="target_tpr must lie between 0 and 1"):
        frames_needed(target)


def test_what_cannot_be_fitted_is_refused() -> None:
    ones = np.ones(10, np.uint8)
    with pytest.raises(DatasetError, match="normal and anomalous pixels, got only one kind"):
        counts_of([(np.zeros(10, np.float32), ones)]).fit()
    upside_down = [(-logits, labels) for logits, labels in frames_of(20, 8)]
    with pytest.raises(DatasetError, match=r"rise with anomaly, .*: train the head .* or calibrate another score"):
        counts_of(upside_down).fit()
    with pytest.raises(DatasetError, match="finite"):
        LogitCounts().add(np.full(10, np.nan, np.float32), ones)


def test_extreme_logits_are_counted() -> None:
    counts = LogitCounts()
    labels = np.array([0, 0, 1, 1], np.uint8)
    counts.add(np.array([-1e6, -70.0, 70.0, 1e6], np.float32), labels)
    assert counts.mean_miss_share(64.0) == 0.0
    assert counts.reliability(1.0, 0.0).num_pixels[0] == 2


def test_the_masks_threshold_finds_what_the_logits_threshold_finds() -> None:
    frames = frames_of(40, 9, shift=-2.0)
    counts = counts_of(frames)
    fitted, edge = counts.fit(), counts.choose_logit_threshold(0.9)
    stored = LogitCalibration(fitted.scale, fitted.shift, threshold_of(edge, fitted))
    above = np.nextafter(np.float32(edge), np.float32(np.inf))
    logits = torch.tensor([float(above), edge - BIN_WIDTH])
    assert (stored.probability(logits) > stored.threshold).tolist() == [True, False]
    rates = MaskRates()
    for values, labels in frames:
        rates.add(stored.probability(torch.from_numpy(values)).numpy() > stored.threshold, labels)
    assert rates.result()["mean_tpr"] == pytest.approx(1 - counts.mean_miss_share(edge), abs=1e-3)


def test_rates_by_hand() -> None:
    rates = MaskRates()
    rates.add(np.array([True, False, True, True]), np.array([1, 1, 0, 255], np.uint8))
    rates.add(np.array([True, True, False]), np.array([1, 0, 0], np.uint8))
    assert rates.result() == {"mean_tpr": 0.75, "pixel_tpr": pytest.approx(2 / 3), "pixel_fpr": pytest.approx(2 / 3)}
    with pytest.raises(DatasetError, match="only one kind"):
        MaskRates().result()


# -- in the engine and in the file ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> EoMTExt:
    torch.manual_seed(0)
    config = ModelConfig(
        "vit_small_patch14_reg4_dinov2", (64, 64), num_queries=4, num_classes=3, num_blocks=1,
        backbone_overrides={"embed_dim": 24, "depth": 2, "num_heads": 2},
    )  # fmt: skip
    model = EoMTExt(config, HeadConfig(8, feature_proj_dim=4)).eval()
    assert model.anomaly_head is not None
    with torch.no_grad():
        model.anomaly_head.mlp[-1].weight *= 20  # else the logits of a random head are all but equal
    return model


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)


def test_the_engine_applies_what_the_checkpoint_holds(model: EoMTExt, image: NDArray[np.uint8], tmp_path: Path) -> None:
    plain = AnomalyEngine(model, EngineConfig(device="cpu"))
    assert plain.calibrations == {}
    assert plain.threshold == 0.5
    logits = plain.logits(image)
    np.testing.assert_allclose(plain.infer(image).probability, 1 / (1 + np.exp(-logits)), atol=1e-6)

    stored = {"scale": 1.5, "shift": -2.0, "threshold": 0.125, "target_tpr": 0.95}
    model.info = {"calibration": stored}
    try:
        save_model(model, tmp_path / "model.safetensors")
    finally:
        model.info = {}
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.info["calibration"] == stored
    engine = AnomalyEngine(loaded, EngineConfig(device="cpu"))
    frame = engine.infer(image)
    np.testing.assert_allclose(frame.probability, 1 / (1 + np.exp(-(1.5 * logits - 2.0))), atol=1e-6)
    np.testing.assert_array_equal(engine.logits(image), logits)
    assert engine.threshold == 0.125
    np.testing.assert_array_equal(frame.mask, frame.probability > 0.125)
    assert AnomalyEngine(loaded, EngineConfig(device="cpu", threshold=0.0)).threshold == 0.0
    baseline = AnomalyEngine(model, EngineConfig(device="cpu", score="msp", threshold=1.0)).infer(image).probability
    np.testing.assert_array_equal(engine.score_maps(image, ["msp"])["msp"], baseline)


@pytest.mark.parametrize(
    ("stored", "rule"),
    [
        ({"scale": 1.0}, "must have scale, shift and threshold"),
        ({"scale": -1.0, "shift": 0.0, "threshold": 0.5}, "scale must be positive, got -1.0"),
        ({"scale": 1.0, "shift": float("nan"), "threshold": 0.5}, "shift must be a finite number, got nan"),
        ({"scale": 1.0, "shift": 0.0, "threshold": 1.0}, r"threshold must lie in \[0, 1\), got 1.0"),
        ({"scale": "1", "shift": 0.0, "threshold": 0.5}, "scale must be a finite number, got '1'"),
        ({"scale": 1e-308, "shift": 0.0, "threshold": 0.2}, "map them to 0.5 and 0.5: calibrate"),
        ({"scale": 1.0, "shift": -1e6, "threshold": 0.5}, "map them to 0 and 0: calibrate"),
        ({"scale": 1e-5, "shift": 0.0, "threshold": 0.9}, "above its threshold 0.9, .*map them to 0.5025"),
        ({"scale": 1e39, "shift": 0.0, "threshold": 0.5}, "calibrate the checkpoint again"),
    ],
)
def test_a_broken_calibration_is_refused(model: EoMTExt, stored: dict[str, object], rule: str) -> None:
    model.info = {"calibration": stored}
    try:
        with pytest.raises(CheckpointError, match=rule):
            AnomalyEngine(model, EngineConfig(device="cpu"))
    finally:
        model.info = {}


@pytest.fixture
def labelled(tmp_path: Path, model: EoMTExt) -> Path:
    """A folder of images whose labels follow the random model's own logits, so that there is something to calibrate."""
    engine, rng = AnomalyEngine(model, EngineConfig(device="cpu")), np.random.default_rng(1)
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    blocks = rng.integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    pictures = blocks.repeat(8, axis=1).repeat(8, axis=2)
    logits = np.stack([engine.logits(picture) for picture in pictures])
    wanted = 2.0 * (logits - logits.mean()) / logits.std() - 2.0
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-wanted))).astype(np.uint8)
    for index, (picture, label_map) in enumerate(zip(pictures, labels, strict=True)):
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{index}.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{index}.png"), label_map)
    return tmp_path / "data"


def test_the_command_stores_what_it_found(
    model: EoMTExt, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, plot = tmp_path / "model.safetensors", tmp_path / "calibrated.safetensors", tmp_path / "plot.svg"
    model.info = {"name": "tiny"}
    try:
        save_model(model, source)
    finally:
        model.info = {}
    calibrate(str(source), str(labelled), 0.9, str(labelled), target, plot, "cpu")
    info = load_model(target).info
    stored = info["calibration"]
    assert info["name"] == "tiny"
    assert stored["num_frames"] == 12
    assert stored["target_tpr"] == 0.9
    assert stored["ece_after"] < 0.5 * stored["ece_before"]
    assert stored["check"]["mean_tpr"] >= 0.9
    assert stored["check"]["ece_after"] == pytest.approx(stored["ece_after"])
    said = capsys.readouterr().out
    assert f"{stored['ece_before']:.5f} before, {stored['ece_after']:.5f} after" in said
    assert (
        f"on average {100 * stored['check']['mean_tpr']:.2f} %), marks {100 * stored['check']['pixel_fpr']:.2f} %"
        in said
    )
    assert len(ElementTree.parse(plot).findall("{*}svg")) == 2
    assert AnomalyEngine(load_model(target), EngineConfig(device="cpu")).threshold == stored["threshold"]

    # An old calibration leaves no trace.
    calibrate(str(target), str(labelled), 0.9, None, target, None, "cpu", overwrite=True)
    again = load_model(target).info["calibration"]
    assert again == {key: value for key, value in stored.items() if key != "check"}


def test_a_threshold_that_marks_everything_says_so() -> None:
    pixels = np.array([-100.0, -100.0, 3.0], np.float32), np.array([1, 0, 0], np.uint8)  # the anomaly is the least
    counts = counts_of([pixels] * 4)
    logit = counts.choose_logit_threshold(0.8)
    said = calibrate_command._threshold_text(0.0, 0.8, counts, logit)
    assert said.startswith("threshold 0: the mask is the whole image")
    assert "0.8 on 4 frames" in said


@pytest.mark.parametrize("score", ["rba", "msp"])
def test_a_baseline_gets_a_calibration_and_a_threshold_of_its_own(model: EoMTExt, tmp_path: Path, score: str) -> None:
    rng = np.random.default_rng(1)
    engine = AnomalyEngine(model, EngineConfig(device="cpu", score=score))
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in range(24):
        picture = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        values = engine.logits(picture, score)
        labels = (values + 0.5 * values.std() * rng.standard_normal(values.shape) > np.quantile(values, 0.8)) * 1
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{index}.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{index}.png"), labels.astype(np.uint8))
    with pytest.raises(ConfigError, match=f"score {score} needs a threshold.*calibrate --scores {score}"):
        engine.infer(picture)
    source, target = tmp_path / "model.safetensors", tmp_path / "calibrated.safetensors"
    save_model(model, source)
    data = str(tmp_path / "data")
    calibrate(str(source), data, 0.9, data, target, None, "cpu", score=score)
    loaded = load_model(target)
    stored = loaded.info["score_calibrations"][score]
    assert stored["check"]["mean_tpr"] >= 0.9
    assert stored["check"]["pixel_fpr"] < 0.5, "a threshold that marks everything finds everything too"
    assert stored["ece_after"] < 0.05 < stored["ece_before"]
    calibrated = AnomalyEngine(loaded, EngineConfig(device="cpu", score=score))
    assert 0.0 < calibrated.infer(picture).mask.mean() < 1.0
    assert "calibrated on data, target TPR 0.9 of pixels" in calibrated.describe()["threshold"]
    assert AnomalyEngine(loaded, EngineConfig(device="cpu")).threshold == 0.5, "the head has none of it"


def test_the_command_bounds_missed_obstacles(model: EoMTExt, labelled: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    model.info = {}
    save_model(model, source)
    with pytest.raises(ConfigError, match="must be one of pixels, obstacles"):
        calibrate(str(source), str(labelled), 0.5, None, source, None, "cpu", guarantee="boxes")
    calibrate(str(source), str(labelled), 0.5, None, source, None, "cpu", guarantee="obstacles", overwrite=True)
    stored = load_model(source).info["calibration"]
    assert (stored["guarantee"], stored["confidence"]) == ("obstacles", 0.99)
    assert sum(stored["obstacles"].values()) >= 7
    assert 0 < stored["threshold"] < 1


def test_the_command_writes_what_tells_another_drive(model: EoMTExt, tmp_path: Path) -> None:
    source, path = tmp_path / "model.safetensors", tmp_path / "normal.safetensors"
    model.info = {}
    save_model(model, source)
    for name in ("images", "labels"):
        (tmp_path / "many" / name).mkdir(parents=True)
    rng, engine = np.random.default_rng(0), AnomalyEngine(model, EngineConfig(device="cpu"))
    for number in range(84):
        picture = rng.integers(0, 80, (64, 64, 3)).astype(np.uint8)
        logits = engine.logits(picture)
        cv2.imwrite(str(tmp_path / "many" / "images" / f"{number}.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / "many" / "labels" / f"{number}.png"), (logits > np.median(logits)).astype(np.uint8))
    with pytest.raises(DatasetError, match="at least 80 frames, got 12"):
        calibrate(str(source), "scenes:0:12", 0.9, None, source, None, "cpu", normality=path, overwrite=True)
    calibrate(str(source), str(tmp_path / "many"), 0.9, None, source, None, "cpu", normality=path, overwrite=True)
    watching = AnomalyEngine.load(source, EngineConfig(device="cpu"), normality=path)
    assert watching.normality is not None
    assert watching.normality.readings == {}
    assert watching.normality.drift is not None
    strangest = max(watching.normality.drift.strangeness)
    frame = watching.infer(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert frame.strangeness is not None
    assert frame.strangeness > strangest


def test_the_command_refuses_what_it_cannot_keep(model: EoMTExt, labelled: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    save_model(model, source)
    before = source.read_bytes()
    with pytest.raises(DatasetError, match="needs at least 99 frames with anomalies, got 12"):
        calibrate(str(source), str(labelled), 0.99, None, None, None, "cpu", overwrite=True)
    with pytest.raises(ConfigError, match="give --output"):
        calibrate("demo", str(labelled), 0.9, None, None, None, "cpu")
    assert source.read_bytes() == before


def test_a_separate_head_is_calibrated(model: EoMTExt, labelled: Path, tmp_path: Path) -> None:
    save_model(model, tmp_path / "whole.safetensors")
    head = {name: value for name, value in model.state_dict().items() if name.startswith("anomaly_head.")}
    (tmp_path / "head").mkdir()
    save_file(head, tmp_path / "head" / "model.safetensors")
    plain = EoMTExt(model.config)
    plain.network.load_state_dict(model.network.state_dict())
    save_model(plain, tmp_path / "plain.safetensors")
    found = []
    for name, path in (("whole", None), ("plain", tmp_path / "head")):
        target = tmp_path / f"{name}_calibrated.safetensors"
        calibrate(str(tmp_path / f"{name}.safetensors"), str(labelled), 0.9, None, target, None, "cpu", head=path)
        found.append(load_model(target).info["calibration"])
    assert found[0] == found[1]


@pytest.fixture
def calibrating(monkeypatch: pytest.MonkeyPatch) -> list[HeldOutFrames]:
    """The frames whose logits were begun to be counted."""
    begun = []
    count = calibrate_command._count

    def note(*arguments: Any) -> LogitCounts:
        begun.extend(item for item in arguments if isinstance(item, HeldOutFrames))
        return count(*arguments)

    monkeypatch.setattr(calibrate_command, "_count", note)
    return begun


def test_command_refuses_bad_arguments_at_once(
    model: EoMTExt, labelled: Path, tmp_path: Path, calibrating: list[HeldOutFrames]
) -> None:
    source, data = str(tmp_path / "model.safetensors"), str(labelled)
    save_model(model, source)
    with pytest.raises(DatasetError, match="needs at least 19 frames with anomalies, got 12"):
        calibrate(source, data, 0.95, None, None, None, "cpu", overwrite=True)
    with pytest.raises(ConfigError, match=r"--plot must end in \.svg, got 'plot\.pdf'"):
        calibrate(source, data, 0.9, None, None, Path("plot.pdf"), "cpu", overwrite=True)
    with pytest.raises(ConfigError, match=r"target_tpr must lie between 0 and 1, got 1\.5"):
        calibrate(source, str(tmp_path / "nowhere"), 1.5, None, None, None, "cpu")
    with pytest.raises(ConfigError, match=r"--output must be a new file, .* pass --overwrite to replace it"):
        calibrate(source, data, 0.9, None, None, None, "cpu")
    nowhere: dict[str, Any] = {"data": str(tmp_path / "nowhere"), "device": "cpu", "overwrite": True}
    for wrong, says in (
        ({"guarantee": "boxes"}, "--guarantee must be one of"),
        ({"score": "fused"}, "--scores must be one of"),
        ({"windows": "cells"}, "mode must be one of"),
        ({"normality": labelled}, "--normality must end in .safetensors"),
        ({"label_values": "1"}, "label"),
        ({"checkpoint": str(tmp_path / "no.safetensors")}, "no such file or folder"),
    ):
        with pytest.raises(EomtExtError, match=says):
            calibrate(**{"checkpoint": source, **nowhere, **wrong})
    assert not calibrating
    calibrate(source, data, 0.9, None, None, None, "cpu", overwrite=True)
    assert len(calibrating) == 1


def test_a_check_that_fails_loses_no_calibration(
    model: EoMTExt, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_model(model, tmp_path / "model.safetensors")
    clear = shutil.copytree(labelled, tmp_path / "clear")
    for path in (clear / "labels").iterdir():
        cv2.imwrite(str(path), np.zeros((64, 64), np.uint8))
    with pytest.raises(DatasetError, match="no anomalous one in 12 label maps"):
        calibrate("~/model.safetensors", str(labelled), 0.9, str(clear), None, None, "cpu", overwrite=True)
    assert "calibration" not in load_model(tmp_path / "model.safetensors").info
    values = "normal=0,anomaly=1"  # said, so that the check begins
    with pytest.raises(DatasetError, match="only one kind"):
        calibrate("~/model.safetensors", str(labelled), 0.9, str(clear), None, None, "cpu", values, overwrite=True)
    stored = load_model(tmp_path / "model.safetensors").info["calibration"]
    assert stored["num_frames"] == 12
    assert "check" not in stored


def test_held_out_scenes_come_from_their_seeds() -> None:
    frames = HeldOutFrames.of("scenes:7:3:animal,tyre")
    assert list(frames.seeds) == [7, 8, 9]
    assert frames.scene_config is not None
    assert frames.scene_config.obstacle_families == ("animal", "tyre")
    everything = HeldOutFrames.of("scenes:1:1").scene_config
    assert everything is not None
    assert everything.obstacle_families == OBSTACLE_FAMILIES
    image, labels = next(iter(frames))
    assert image.shape == (540, 960, 3)
    assert set(np.unique(labels)) <= {0, 1, 255}


@pytest.mark.parametrize("source", ["scenes:1", "scenes:a:3", "scenes:1:0", "scenes:-1:3", "scenes:1:2:3:4"])
def test_held_out_scenes_that_cannot_be_understood(source: str) -> None:
    with pytest.raises(ConfigError, match="scenes must look like scenes:SEED:COUNT"):
        HeldOutFrames.of(source)
