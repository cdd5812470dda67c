"""Exported files in a benchmark: each runtime gives the engine's probability, and what cannot be told is said."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from eomt_ext_core import AnomalyEngine, ConfigError, EngineConfig, EoMTExt, HeadConfig
from eomt_ext_core.bench import frames, plot, run
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.config import STAGES_OF_EXPORTED, BenchConfig
from eomt_ext_core.bench.table import tables
from eomt_ext_core.bench.variants import exported
from eomt_ext_core.cli import app
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model
from eomt_ext_core.runtimes.contents import ExportContents

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    return tiny_model(HeadConfig(hidden_dim=16, feature_proj_dim=None), crop_hw=(64, 64))


@pytest.fixture(scope="module")
def file(model: EoMTExt, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    export_model(model, path, ExportConfig())
    return str(path)


@pytest.fixture(autouse=True)
def threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_new_process", lambda: ThreadPoolExecutor(1))


def test_a_whole_run(file: str, model: EoMTExt, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    expected = AnomalyEngine(model, EngineConfig(device="cpu", precision="fp32"))
    for backend in ("onnxruntime", "openvino"):
        config = BenchConfig(
            checkpoint=file, backend=backend, precision="fp32", images_hw=((80, 150),), repeats=2, growth_model="none"
        )
        result = run.run_bench(config, run.find_device(config), "eomt-ext bench")
        assert set(result.not_measured) == set(config.variants)
        (case,) = result.cases
        assert (case.model, case.num_windows, case.network_flops) == ("small.onnx", 2, None)
        variant = case.variants[f"{backend}-fp32"]
        assert (tuple(variant.stages), variant.rounds) == (STAGES_OF_EXPORTED, 2)
        assert variant.frame is not None
        assert sum(times.median_s for times in variant.stages.values()) <= 1.5 * variant.frame.p99_s
        assert variant.memory.peak >= variant.memory.held > 0

        console = Console(width=140, record=True, file=StringIO())
        console.print(tables(result))
        said = console.export_text()
        assert "literal-fp32: not measured, it needs a checkpoint, which an exported file is not" in said
        assert said.count(f"{backend}-fp32") == 2
    image = np.random.default_rng(1).integers(0, 256, (80, 150, 3), dtype=np.uint8)
    found = exported.exported_pipelines(exported.load_exported(file, "openvino", "fp32", "cpu"))
    probability = found.whole(image, StageClock(torch.device("cpu")))
    np.testing.assert_allclose(probability, expected.infer(image).probability, atol=1e-4)
    pytest.importorskip("matplotlib")
    plot.write_plot(result, tmp_path / "bench.png")


def test_the_command(file: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    arguments = ["bench", "--checkpoint", file, "--images", "64x64", "--repeats", "1", "--no-plot", "--output", output]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert found["growth"] is None
    assert list(found["cases"][0]["variants"]) == ["onnxruntime-fp32"]


def test_a_device_that_does_not_exist_leaves_no_folder(file: str, tmp_path: Path) -> None:
    for source in (file, "demo"):
        arguments = ["bench", "--checkpoint", source, "--device", "cuda:99", "--output", str(tmp_path / "out")]
        assert isinstance(CliRunner().invoke(app, [*arguments, "--no-plot"]).exception, ConfigError)
        assert not (tmp_path / "out").exists()


class Package:
    """Gives the mean of a window in every pixel, in the place of one that takes a minute to compile."""

    device = torch.device("cpu")
    contents = ExportContents((64, 64), 5, ("msp", "rba"), "fp32", 1, 0, {}, {})

    def __init__(self, path: Path, device: str) -> None:
        assert path.is_file()

    def __call__(self, crops: torch.Tensor, scores: tuple[str, ...]) -> torch.Tensor:
        assert scores == (self.contents.scores[0],)
        return crops.float().mean(dim=1, keepdim=True) - 100


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The path of a package in the home folder."""
    monkeypatch.setattr(exported, "Pt2Package", Package)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.pt2").write_bytes(b"PK")
    return "~/m.pt2"


def test_a_package_of_aotinductor(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "contents", replace(Package.contents, outputs=("head", "rba")))
    engine = exported.load_exported(package, "auto", "auto", "cpu")
    assert engine.describe()["backend"] == "aotinductor"
    image = np.full((64, 64, 3), 90, np.uint8)
    image[:, 32:] = 110
    probability = engine.infer(image).probability
    assert probability[0, 0] < 1e-4
    assert probability[0, -1] > 1 - 1e-4


def test_a_file_without_the_score_of_the_head(package: str, tmp_path: Path, model: EoMTExt) -> None:
    assert exported.load_exported(package, "auto", "auto", "auto").config.score == "msp"
    export_model(model, tmp_path / "rba.onnx", ExportConfig(scores=("rba",)))
    engine = exported.load_exported(str(tmp_path / "rba.onnx"), "auto", "auto", "cpu")
    assert engine.infer(np.zeros((64, 64, 3), np.uint8)).probability.shape == (64, 64)


def test_another_precision_than_the_package_s_is_refused(package: str) -> None:
    with pytest.raises(ConfigError, match="precision must be fp32 as in the file, got fp16: choose auto"):
        exported.load_exported(package, "auto", "fp16", "auto")


def test_a_package_on_a_gpu_is_described_and_repeated_as_there(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "device", torch.device("cuda", 0))
    monkeypatch.setattr(exported, "device_name", str)
    config = BenchConfig(checkpoint=package, images_hw=((64, 64),), growth_model="none")
    frames._subject.cache_clear()
    result = run.run_bench(config, run.find_device(config), "eomt-ext bench")
    assert result.machine["GPU"]
    assert result.cases[0].variants["aotinductor-fp32"].rounds == 200


def test_a_package_keeps_to_the_processors_of_its_container(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(exported, "limit_threads", lambda: torch.set_num_threads(threads + 1))
    try:
        exported.load_exported(package, "auto", "auto", "auto")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
