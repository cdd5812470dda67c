import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig, load_model
from eomt_ext_core.cli import app


@pytest.fixture
def official(tmp_path: Path) -> Path:
    config = ModelConfig(
        "vit_small_patch14_reg4_dinov2",
        (32, 32),
        num_queries=5,
        num_classes=4,
        num_blocks=2,
        backbone_overrides={"embed_dim": 32, "depth": 2, "num_heads": 2},
    )
    path = tmp_path / "official.bin"
    state = EoMTExt(config, HeadConfig(hidden_dim=8)).state_dict()
    torch.save({**state, "network.attn_mask_probs": torch.zeros(2)}, path)
    return path


HELP_OF_ALL_COMMANDS = """
import sys
from typer.testing import CliRunner
from eomt_ext_core.cli import add_commands, app

add_commands()
names = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]
for arguments in (["--help"], ["--version"], *([name, "--help"] for name in names)):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
print(*names)
print(*{"torch", "timm", "numpy", "cv2", "rclpy"} & sys.modules.keys())
"""


def test_help_and_version_load_no_large_library() -> None:
    done = subprocess.run([sys.executable, "-c", HELP_OF_ALL_COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names, loaded = done.stdout.splitlines()
    assert {"bench", "convert", "demo", "evaluate", "export", "predict", "replay"} <= set(names.split())
    assert loaded == ""


def test_convert_writes_architecture_into_file(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    result = CliRunner().invoke(app, ["convert", str(official), str(target), "--num-heads", "2", "--crop", "32", "64"])
    assert result.exit_code == 0, result.output
    assert "window 64×32, 5 queries, 4 classes, with anomaly head" in result.output
    model = load_model(target)
    assert model.config.crop_hw == (32, 64)
    assert model.config.backbone_overrides["num_heads"] == 2


def test_convert_writes_where_other_commands_do(official: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "ours.safetensors")
    arguments = ["convert", str(official), "--num-heads", "2", "--output"]
    assert CliRunner().invoke(app, [*arguments, target]).exit_code == 0
    assert "pass --overwrite to replace it" in str(CliRunner().invoke(app, [*arguments, target]).exception)
    assert CliRunner().invoke(app, [*arguments, target, "--overwrite"]).exit_code == 0
    assert "give the file to write once" in str(CliRunner().invoke(app, [*arguments, target, target]).exception)
    assert "must end in .safetensors" in str(CliRunner().invoke(app, [*arguments, "x.bin"]).exception)


def test_error_is_reported_in_one_line(official: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eomt_ext_core.cli", "convert", str(official), str(tmp_path / "x.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "num_heads" in done.stderr
    assert str(official) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.safetensors").exists()
