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


def test_convert_writes_a_file_that_says_its_own_architecture(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    result = CliRunner().invoke(app, ["convert", str(official), str(target), "--num-heads", "2", "--crop", "32", "64"])
    assert result.exit_code == 0, result.output
    assert "crop 64×32, 5 queries, 4 classes, with anomaly head" in result.output
    model = load_model(target)
    assert model.config.crop_hw == (32, 64)
    assert model.config.backbone_overrides["num_heads"] == 2


def test_a_broken_rule_ends_the_command_with_one_line(official: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eomt_ext_core.cli", "convert", str(official), str(tmp_path / "x.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "num_heads" in done.stderr
    assert str(official) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.safetensors").exists()


def test_commands_of_the_other_packages_join() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "eomt_ext_core.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert "convert" in listed.stdout
    assert "demo" in listed.stdout
