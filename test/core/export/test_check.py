from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eomt_ext_core import ConfigError, EoMTExt, InferenceError
from eomt_ext_core.export import check, exporting, onnx_file
from eomt_ext_core.export.check import bundled_windows, compare, probe_crops
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model
from eomt_ext_core.scenes import SceneConfig, render_scene

CROP_HW = (64, 80)


def brightness(crops: Tensor, scores: Sequence[str]) -> Tensor:
    return crops.float().mean(dim=1, keepdim=True)


def test_probes_are_scenes_and_always_the_same() -> None:
    crops = probe_crops((32, 80), 5)
    assert crops.shape == (5, 3, 32, 80)
    assert crops.dtype == torch.uint8
    assert crops.float().std(dim=(1, 2, 3)).min() > 10
    assert len(crops.unique(dim=0)) == 5
    torch.testing.assert_close(crops, probe_crops((32, 80), 5), atol=0, rtol=0)


def test_the_bundled_windows_are_what_the_renderer_draws() -> None:
    drawn = [render_scene(seed, SceneConfig(size_hw=(96, 160))).image_rgb for seed in range(3)]
    off = np.abs(bundled_windows().astype(int) - np.stack(drawn))
    assert off.mean() < 0.5, "draw them again, by the command in eomt_ext_core/assets/README.md"


def test_largest_difference_is_relative_to_score_range() -> None:
    def one_pixel_off(crops: Tensor, scores: Sequence[str]) -> Tensor:
        score = brightness(crops, scores)
        score[-1, 0, 3, 5] += 0.0078125
        return score

    (item,) = compare(brightness, one_pixel_off, ("msp",), CROP_HW, 0, "fp32")
    assert item.difference == 0.0078125
    assert item.allowed == pytest.approx(1e-4 * float(probe_crops(CROP_HW, 3).float().mean(dim=1).max()))


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
def test_a_large_difference_is_an_error(wrong: float) -> None:
    with pytest.raises(InferenceError, match="rba by"):
        compare(brightness, lambda crops, scores: brightness(crops, scores) + wrong, ("rba",), CROP_HW, 0, "fp32")


@pytest.mark.parametrize("swapped", [True, False])
def test_red_and_blue_are_looked_for_in_a_score_that_is_wrong(swapped: bool) -> None:
    def reference(crops: Tensor, scores: Sequence[str]) -> Tensor:
        return crops[:, :1].float() if scores == ("rba",) else brightness(crops, scores)

    def exported(crops: Tensor, scores: Sequence[str]) -> Tensor:
        return reference(crops.flip(1), scores) if swapped else reference(crops, scores) + 300 * (scores == ("rba",))

    with pytest.raises(InferenceError, match="rba by") as caught:
        compare(reference, exported, ("msp", "rba"), CROP_HW, 0, "fp32")
    assert ("red and blue are swapped" in str(caught.value)) == swapped


@pytest.mark.parametrize(("batch", "expected"), [(0, [1, 3]), (2, [2])])
def test_a_file_is_called_with_the_batches_it_is_for(batch: int, expected: list[int]) -> None:
    called = []

    def listening(crops: Tensor, scores: Sequence[str]) -> Tensor:
        called.append(len(crops))
        return brightness(crops, scores)

    compare(brightness, listening, ("rba",), CROP_HW, batch, "fp32")
    assert called == expected


def test_nothing_is_left_of_a_file_that_fails(
    small_model: EoMTExt, tmp_path: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.TOLERANCE, "fp32", 0.0)
    monkeypatch.setattr(exporting, "write_onnx", lambda program, contents, path, opset: onnx_file_to(path))

    def onnx_file_to(path: Path) -> None:
        path.write_bytes(onnx_file.read_bytes())

    with pytest.raises(InferenceError, match="differs from the engine in head by"):
        export_model(small_model, tmp_path / "x.onnx", ExportConfig(scores=("head",)))
    assert list(tmp_path.iterdir()) == []


def test_impossible_export_fails_before_writing(
    small_model: EoMTExt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headless = EoMTExt(small_model.config)
    with pytest.raises(ConfigError, match="needs a model with an anomaly head"):
        export_model(headless, tmp_path / "x.onnx", ExportConfig(scores=("head",)))
    with pytest.raises(ConfigError, match=r"must end in \.onnx, got 'x\.pt2'"):
        export_model(small_model, tmp_path / "x.pt2", ExportConfig())
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 10_000)
    with pytest.raises(ConfigError, match="choose precision fp16, or format pt2"):
        export_model(small_model, tmp_path / "x.onnx", ExportConfig())
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_is_held_to_its_ranges() -> None:
    for wrong in ({"opset": 17}, {"batch": -1}, {"score_stride": 3}, {"format": "tflite"}, {"precision": "bf16"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ExportConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="runs on any device, got cuda: leave it out"):
        ExportConfig(device="cuda")
    assert ExportConfig(format="pt2", device="cuda").device == "cuda"
    for scores in (("head", "head"), ("nonsense",)):
        with pytest.raises(ConfigError, match="scores must be different names"):
            ExportConfig(scores=scores)
