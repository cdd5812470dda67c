import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyEngine, CheckpointError, ConfigError, EngineConfig, EoMTExt, InferenceError
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.export.check import probe_crops
from eomt_ext_core.runtimes.openvino_scorer import (
    OpenVinoWindowScorer,
    choose_arithmetic,
    choose_openvino_device,
)

onnx = pytest.importorskip("onnx")
openvino = pytest.importorskip("openvino")

EXACT = EngineConfig(device="cpu", backend="openvino", precision="fp32")
LAPTOP = ["CPU", "GPU", "NPU"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_openvino_scores_as_torch_does(small_model: EoMTExt, onnx_file: Path) -> None:
    reference = TorchWindowScorer(small_model, torch.device("cpu"), "fp32", "none", 1)
    scorer = OpenVinoWindowScorer.load(onnx_file, EXACT)
    crops = probe_crops(scorer.crop_hw, 2)
    for window in torch.split(crops, 1):
        for scores in (("head",), ("rba", "head"), ("head", SEMANTIC)):
            torch.testing.assert_close(scorer(window, scores), reference(window, scores).clone(), atol=1e-4, rtol=0)


def test_the_engine_tells_what_runs_where(small_model: EoMTExt, onnx_file: Path, cache: Path) -> None:
    image = np.ascontiguousarray(probe_crops((90, 260), 1)[0].permute(1, 2, 0).numpy())
    engine = AnomalyEngine.load(onnx_file, EXACT)
    expected = AnomalyEngine(small_model, EngineConfig(device="cpu", precision="fp32")).infer(image)
    np.testing.assert_allclose(engine.infer(image).probability, expected.probability, atol=1e-4)
    told = engine.describe()
    known = {"backend": "openvino", "device": "cpu", "precision": "fp32", "threads": str(torch.get_num_threads())}
    assert {name: told[name] for name in known} == known
    assert told["device_name"]
    assert list((cache / "eomt_ext" / "openvino").iterdir()), "the compiled model is kept for the next start"
    assert engine.threshold == 0.3


def test_bfloat16_is_close(small_model: EoMTExt, onnx_file: Path) -> None:
    crops = probe_crops(small_model.config.crop_hw, 1)
    exact = OpenVinoWindowScorer.load(onnx_file, EXACT)(crops, ("head",))
    rounded = OpenVinoWindowScorer.load(onnx_file, EngineConfig(device="cpu", backend="openvino", precision="bf16"))
    assert rounded.precision == "bf16"
    assert (rounded(crops, ("head",)) - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_what_cannot_be_opened(onnx_file: Path, tmp_path: Path) -> None:
    foreign, damaged, other = tmp_path / "foreign.onnx", tmp_path / "damaged.onnx", tmp_path / "other.onnx"
    model = onnx.load(onnx_file)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value += 16
    onnx.save(model, other)
    del model.metadata_props[:]
    onnx.save(model, foreign)
    damaged.write_bytes(onnx_file.read_bytes()[:5000])
    for path, message in (
        (foreign, "foreign.onnx: it was not written by"),
        (damaged, "damaged.onnx: not an ONNX file"),
        (tmp_path / "missing.onnx", "missing.onnx does not exist"),
        (other, r"other.onnx: .*Create one with"),
    ):
        with pytest.raises(CheckpointError, match=message):
            OpenVinoWindowScorer.load(path, EXACT)
    for device in ("cuda", "tpu"):
        with pytest.raises(ConfigError, match=f"device must be auto, cpu, GPU, GPU.N or NPU, got '{device}'"):
            EngineConfig(device=device, backend="openvino")
    with pytest.raises(ConfigError, match="GPU and NPU need backend openvino"):
        EngineConfig(device="NPU")
    with pytest.raises(ConfigError, match="score_stride must be 1 as in the file"):
        OpenVinoWindowScorer.load(onnx_file, EngineConfig(device="cpu", backend="openvino", score_stride=2))


def test_a_failure_inside_openvino_is_an_inference_error(onnx_file: Path) -> None:
    with pytest.raises(InferenceError, match=r"OpenVINO \(cpu\) failed"):
        OpenVinoWindowScorer.load(onnx_file, EXACT)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ("head",))


def test_without_openvino_the_extra_is_named(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="install the extra 'openvino'"):
        OpenVinoWindowScorer.load(onnx_file, EXACT)


@pytest.mark.parametrize(
    ("name", "available", "expected"),
    [
        ("auto", ["CPU"], "CPU"),
        ("auto", LAPTOP, "GPU"),
        ("cpu", LAPTOP, "CPU"),
        ("NPU", LAPTOP, "NPU"),
        ("GPU.1", ["CPU", "GPU.0", "GPU.1"], "GPU.1"),
        ("GPU", ["CPU", "GPU.0", "GPU.1"], "GPU"),
    ],
)
def test_devices_have_the_names_of_openvino(name: str, available: list[str], expected: str) -> None:
    assert choose_openvino_device(name, available) == expected


def test_a_device_that_is_not_there_is_no_other_one() -> None:
    with pytest.raises(ConfigError, match="device NPU does not exist: OpenVINO sees CPU, GPU; install Intel's driver"):
        choose_openvino_device("NPU", ["CPU", "GPU"])


def test_arithmetic_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_bf16, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("eomt_ext_core.runtimes.openvino_scorer.multiplies_bf16", lambda has=has_bf16: has)
        assert choose_arithmetic("auto", "fp32", "CPU") == expected
    assert choose_arithmetic("auto", "fp32", "NPU") == "fp16"
    for precision, device in (("fp16", "CPU"), ("bf16", "GPU")):
        with pytest.raises(ConfigError, match=f"precision on OpenVINO's {device} must be auto, fp32 or"):
            choose_arithmetic(precision, "fp32", device)
