import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, CheckpointError, ConfigError, EngineConfig, EoMTExt, InferenceError
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import CPU_BATCH, GPU_BATCH, SEMANTIC
from eomt_ext_core.export.check import probe_crops
from eomt_ext_core.runtimes import onnx_scorer
from eomt_ext_core.runtimes.onnx_scorer import OnnxWindowScorer
from eomt_ext_core.scenes import SceneConfig, render_scene

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CPU = torch.device("cpu")

ON_CPU = EngineConfig(device="cpu", backend="onnxruntime")


def street(height: int, width: int) -> NDArray[np.uint8]:
    return render_scene(7, SceneConfig(size_hw=(height, width))).image_rgb


@pytest.mark.parametrize("count", [1, 3])
def test_onnxruntime_scores_as_torch_does(small_model: EoMTExt, onnx_file: Path, count: int) -> None:
    reference = TorchWindowScorer(small_model, torch.device("cpu"), "fp32", "none", 1)
    scorer = OnnxWindowScorer.load(onnx_file, ON_CPU)
    crops = probe_crops(scorer.crop_hw, count)
    for scores in (("head",), ("rba",), (SEMANTIC,), ("rba", "head"), ("head", SEMANTIC)):
        with torch.inference_mode():
            expected = reference(crops, scores)
        torch.testing.assert_close(scorer(crops, scores), expected, atol=1e-4, rtol=0)


def test_the_file_is_enough_alone(small_model: EoMTExt, onnx_file: Path) -> None:
    scorer = OnnxWindowScorer.load(onnx_file, ON_CPU)
    assert scorer.crop_hw == small_model.config.crop_hw
    assert scorer.num_classes == small_model.config.num_classes
    assert scorer.info == small_model.info
    assert list(scorer.class_names) == small_model.info["class_names"]
    assert scorer.scores == ("head", "rba", SEMANTIC)
    described = scorer.describe()
    assert described["provider"] == "CPUExecutionProvider"
    assert described["exported_from_checkpoint_sha256"] == "5" * 64
    inputs = onnx.load(onnx_file).graph.input
    assert [item.name for item in inputs] == ["crops"]
    assert inputs[0].type.tensor_type.shape.dim[0].dim_param


def test_an_operator_is_told_the_device_of_the_provider(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = OnnxWindowScorer.load(onnx_file, ON_CPU)
    described = AnomalyEngine(on_cpu, ON_CPU).describe()
    assert described["device"] == "cpu"
    assert described["device_name"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    on_gpu = OnnxWindowScorer(on_cpu._session, on_cpu.contents, "CUDAExecutionProvider", torch.device("cuda:1"))
    described = AnomalyEngine(on_gpu, ON_CPU).describe()
    assert (described["device"], described["device_name"]) == ("cuda:1", "GPU 1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"NVIDIA of {device}")
    on_gpu = OnnxWindowScorer(on_cpu._session, on_cpu.contents, "CUDAExecutionProvider", torch.device("cuda:1"))
    assert on_gpu.describe()["device_name"] == "NVIDIA of cuda:1"


@pytest.mark.parametrize("size_hw", [(90, 260), (64, 96), (200, 70)])
def test_the_engine_runs_it_through_the_same_windows(
    small_model: EoMTExt, onnx_file: Path, size_hw: tuple[int, int]
) -> None:
    image = street(*size_hw)
    torch_engine = AnomalyEngine(small_model, EngineConfig(device="cpu", precision="fp32"))
    engine = AnomalyEngine.load(onnx_file, ON_CPU)
    assert engine.threshold == torch_engine.threshold == 0.3
    (found,) = engine.infer_batch([image], semantic=True)
    (expected,) = torch_engine.infer_batch([image], semantic=True)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
    assert found.semantic is not None
    assert expected.semantic is not None
    assert (found.semantic == expected.semantic).mean() > 0.999
    assert expected.probability.std() > 0.001
    np.testing.assert_allclose(
        engine.score_maps(image, ("rba",))["rba"], torch_engine.score_maps(image, ("rba",))["rba"], atol=1e-4
    )


def test_what_the_file_does_not_hold_is_named(onnx_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"'msp' .*head, rba"):
        AnomalyEngine.load(onnx_file, EngineConfig(device="cpu", backend="onnxruntime", score="msp"))
    with pytest.raises(ConfigError, match="in the file, head, rba, semantic, got entropy"):
        OnnxWindowScorer.load(onnx_file, ON_CPU)(probe_crops((64, 96), 1), ("head", "entropy"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "precision must be fp32 as in the file, got fp16"),
        ({"score_stride": 2}, "score_stride must be 1 as in the file, got 2"),
        ({"optimize": "compile"}, "optimize must be auto with backend onnxruntime"),
        ({"device": "cuda"}, "install onnxruntime-gpu"),
    ],
)
def test_what_the_file_has_fixed_cannot_be_asked_otherwise(
    onnx_file: Path, changes: dict[str, str | int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    config = EngineConfig(**{"device": "cpu", "backend": "onnxruntime", **changes})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        OnnxWindowScorer.load(onnx_file, config)


def test_other_files_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    foreign, damaged = tmp_path / "foreign.onnx", tmp_path / "damaged.onnx"
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    onnx.save(model, foreign)
    damaged.write_bytes(onnx_file.read_bytes()[:5000])
    for path, message in (
        (foreign, "foreign.onnx: it was not written by"),
        (damaged, "damaged.onnx: not an ONNX file"),
        (tmp_path / "missing.onnx", "missing.onnx does not exist"),
    ):
        with pytest.raises(CheckpointError, match=message):
            OnnxWindowScorer.load(path, ON_CPU)
    with pytest.raises(CheckpointError, match="use backend torch for a checkpoint"):
        AnomalyEngine.load("demo", ON_CPU)
    with pytest.raises(CheckpointError, match="ONNX runs with backend onnxruntime"):
        AnomalyEngine.load(onnx_file, EngineConfig(device="cpu", backend="torch"))


def test_a_failure_inside_onnxruntime_is_an_inference_error(onnx_file: Path) -> None:
    scorer = OnnxWindowScorer.load(onnx_file, ON_CPU)
    with pytest.raises(InferenceError, match="CPUExecutionProvider"):
        scorer(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ("head",))


def test_without_onnxruntime_the_extra_is_named(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="install the extra 'export'"):
        OnnxWindowScorer.load(onnx_file, ON_CPU)


def test_any_number_has_a_limit(onnx_file: Path) -> None:
    on_cpu = OnnxWindowScorer.load(onnx_file, ON_CPU)
    assert on_cpu.max_batch == CPU_BATCH
    on_gpu = OnnxWindowScorer(on_cpu._session, on_cpu.contents, "CUDAExecutionProvider", torch.device("cuda:0"))
    assert on_gpu.max_batch == GPU_BATCH
    two = replace(on_cpu.contents, batch=2)
    assert OnnxWindowScorer(on_cpu._session, two, "CPUExecutionProvider", CPU).max_batch == 2


def test_threads_are_limited_before_they_are_counted(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(onnx_scorer, "limit_threads", lambda: torch.set_num_threads(1))
    try:
        session = OnnxWindowScorer.load(onnx_file, ON_CPU)._session
    finally:
        torch.set_num_threads(before)
    assert session.get_session_options().intra_op_num_threads == 1


def test_failing_provider_is_replaced_with_a_warning(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = "CUDAExecutionProvider"
    session = onnxruntime.InferenceSession
    asked = []

    def broken_gpu(*arguments: object, providers: list[tuple[str, dict[str, str]]], **options: object) -> object:
        asked.append(providers)
        if providers[0][0] == cuda:
            raise RuntimeError("CUDA failure 101: invalid device ordinal")
        return session(*arguments, providers=providers, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda, "CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="CUDAExecutionProvider did not start: CUDA failure 101"):
        OnnxWindowScorer.load(onnx_file, replace(ON_CPU, device="cuda:1"))
    assert asked == [[("CPUExecutionProvider", {})], [(cuda, {"device_id": "1"})]]
    assert OnnxWindowScorer.load(onnx_file, replace(ON_CPU, device="auto")).provider == "CPUExecutionProvider"
    assert caplog.messages == [
        "CUDAExecutionProvider did not start: CUDA failure 101: invalid device ordinal; trying CPUExecutionProvider"
    ]


def test_gpu_warm_up_runs_largest_batch(onnx_file: Path) -> None:
    on_cpu = OnnxWindowScorer.load(onnx_file, ON_CPU)
    sizes = []

    class Listening:
        def run(self, names: list[str], inputs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
            sizes.append(len(inputs["crops"]))
            return [np.zeros((sizes[-1], 1, *on_cpu.crop_hw), np.float32)]

    gpu = torch.device("cuda:0")
    AnomalyEngine(OnnxWindowScorer(Listening(), on_cpu.contents, "CPUExecutionProvider", CPU), ON_CPU)
    assert sizes == [1]
    engine = AnomalyEngine(OnnxWindowScorer(Listening(), on_cpu.contents, "CUDAExecutionProvider", gpu), ON_CPU)
    assert sizes == [1, 16, 1]
    assert [engine.is_warm(replace(ON_CPU, batch_windows=windows)) for windows in (16, 17)] == [True, False]
    fixed = replace(on_cpu.contents, batch=2)
    AnomalyEngine(OnnxWindowScorer(Listening(), fixed, "CUDAExecutionProvider", gpu), ON_CPU)
    assert sizes == [1, 16, 1, 2]


@pytest.mark.parametrize(
    "message", ["BFCArena: Failed to allocate memory for requested buffer of size 512", "CUDA error: out of memory"]
)
def test_onnxruntime_out_of_memory_is_a_memory_error(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    class Full:
        def run(self, names: list[str], inputs: dict[str, NDArray[np.uint8]]) -> None:
            raise RuntimeError(message)

    scorer = OnnxWindowScorer.load(onnx_file, ON_CPU)
    monkeypatch.setattr(scorer, "_session", Full())
    with pytest.raises(MemoryError, match="CPUExecutionProvider"):
        scorer(torch.zeros((1, 3, *scorer.crop_hw), dtype=torch.uint8), scorer.scores[:1])
