from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eomt_ext_core import AnomalyEngine, CheckpointError, ConfigError, EngineConfig, HeadConfig, cli, load_model
from eomt_ext_core.about.file_facts import facts_of
from eomt_ext_core.model.checkpoint import save_model


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    save_model(tiny_model(HeadConfig(16, 0.3, None), num_blocks=1, backbone_overrides=overrides), path)
    return path


def test_export_with_fp16_batch_and_stride(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    target = tmp_path / "x.onnx"
    options = "--precision", "fp16", "--batch", 2, "--score-stride", 2, "--opset", 20
    done = invoke("export", checkpoint, "--output", target, *options)
    assert done.exit_code == 0, done.output
    assert "head" in done.output
    assert "fp16" in done.output
    assert list(tmp_path.iterdir()) == [target]

    engine = AnomalyEngine.load(target, EngineConfig(device="cpu", backend="onnxruntime"))
    assert engine.precision == "fp16"
    origin = engine.describe()["exported_from_checkpoint_sha256"]
    assert origin == sha256(checkpoint.read_bytes()).hexdigest()
    facts = facts_of(str(target))
    assert (facts["kind"], facts["precision"], facts["windows_in_a_call"]) == ("export (onnx)", "fp16", 2)
    assert facts["record"]["model"] == {"checkpoint_sha256": origin}
    image = np.random.default_rng(0).integers(0, 256, (64, 200, 3), dtype=np.uint8)  # 3 windows: the last call is short
    found = engine.infer(image).probability
    in_torch = AnomalyEngine(load_model(checkpoint), EngineConfig(device="cpu", precision="fp32", score_stride=2))
    expected = in_torch.infer(image).probability
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_what_is_wrong_is_named(checkpoint: Path, tmp_path: Path) -> None:
    for arguments, error in (
        (("--output", tmp_path / "x.onnx", "--format", "pt2"), ConfigError),
        (("--output", tmp_path / "x.onnx", "--scores", "nonsense"), ConfigError),
        (("--output", tmp_path / "x.onnx", "--head", tmp_path / "none.bin"), CheckpointError),
    ):
        assert isinstance(invoke("export", checkpoint, *arguments).exception, error)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there.onnx").write_text("old")
    said = str(invoke("export", checkpoint, "--output", tmp_path / "there.onnx").exception)
    assert "there.onnx exists: choose another, or pass --overwrite to replace it" in said
