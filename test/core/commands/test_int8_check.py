from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt, InferenceError, cli
from eomt_ext_core.commands import int8_check
from eomt_ext_core.datasets import open_datasets
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.export import exporting
from eomt_ext_core.model.checkpoint import save_model
from eomt_ext_core.scenes import SceneConfig, render_scene

pytest.importorskip("onnxruntime")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    for index in range(3):
        scene = render_scene(index, SceneConfig(size_hw=(64, 96)))
        labels = np.zeros((64, 96), np.uint8)
        labels[20:40, 30:60] = 1
        for name, array in (("images", scene.image_rgb[..., ::-1]), ("labels_masks", labels)):
            (tmp_path / "scenes" / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "scenes" / name / f"{index}.png"), array)
    return tmp_path / "scenes"


def test_int8_is_measured_before_the_file_gets_its_name(
    small_model: EoMTExt, onnx_file: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(program: object, contents: object, path: Path, opset: int) -> None:
        path.write_bytes(onnx_file.read_bytes())  # the same graph, as exporting takes seconds

    monkeypatch.setattr(exporting, "write_onnx", write)
    save_model(small_model, tmp_path / "model.safetensors")
    target = tmp_path / "out" / "model.onnx"
    arguments = ["export", str(tmp_path / "model.safetensors"), "--output", str(target), "--scores", "head,rba"]
    arguments += ["--semantic", "--precision", "int8", "--check", str(scenes)]
    told = CliRunner().invoke(cli.app, arguments)
    assert isinstance(told.exception, ConfigError)
    assert "int8 needs --calibration and --check" in str(told.exception)
    arguments += ["--calibration", str(scenes / "images")]
    monkeypatch.setattr(int8_check, "MOST_FALL", -1.0)
    refused = CliRunner().invoke(cli.app, arguments)
    assert "int8 may cost" in str(refused.exception)
    assert not target.exists()
    monkeypatch.setattr(int8_check, "MOST_FALL", 1.0)
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "scenes, head: AuPRC" in done.output
    assert AnomalyEngine.load(target, EngineConfig(device="cpu")).precision == "int8"


def test_a_fall_of_auprc_is_refused(small_model: EoMTExt, onnx_file: Path, scenes: Path) -> None:
    exact = AnomalyEngine(small_model, EngineConfig(device="cpu", precision="fp32"))
    datasets = open_datasets(scenes)
    (line,) = int8_check.check_auprc(exact, onnx_file, ("head",), datasets)  # the same model: nothing falls
    before, after = line.split("AuPRC ")[1].split(" in fp32, ")
    assert after == f"{before} in int8"
    turned = AnomalyEngine(small_model, EngineConfig(device="cpu", precision="fp32"))
    labels = cv2.imread(str(scenes / "labels_masks" / "0.png"), cv2.IMREAD_UNCHANGED)
    turned.score_maps = lambda image, scores: {"head": labels.astype(np.float32)}  # type: ignore[method-assign]
    with pytest.raises(
        InferenceError, match=r"int8 may cost 1 point of AuPRC, got scenes, head: AuPRC 100\.00 in fp32"
    ):
        int8_check.check_auprc(turned, onnx_file, ("head",), datasets)


def test_calibration_images_are_spread_over_the_folder(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [image.shape for image in int8_check.calibration_images(scenes / "images")] == [(64, 96, 3)] * 3
    monkeypatch.setattr(int8_check, "_MOST_IMAGES", 2)
    assert len(list(int8_check.calibration_images(scenes / "images"))) == 2
    with pytest.raises(ConfigError, match="needs a folder with images"):
        int8_check.calibration_images(scenes)
