"""What a training says that nobody watches on a terminal."""

import re

import pytest
import torch
from eomt_ext_training.data.sample import SemanticSample
from eomt_ext_training.network.training import NetworkTraining, train_network
from torch.utils.data import Dataset

from eomt_ext_core import EoMTExt, ModelConfig

SHORT = ("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.max_epochs", "2")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line is due."""
    monkeypatch.setattr("eomt_ext_core.progress.LINE_PERIOD_S", 0.0)


@pytest.mark.usefixtures("always")
def test_head_training_lines_have_step_loss_and_time(train, capfd: pytest.CaptureFixture[str]) -> None:
    train(*SHORT)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step: ")]
    steps = [line for line in lines if "validation" not in line]
    assert len(steps) == 4
    assert re.fullmatch(r"step: 1 of 4, epoch 1, loss \d\.\d{4}, \d+ s left", steps[0])
    assert re.fullmatch(r"step: 4 of 4, epoch 2, loss \d\.\d{4}, 0 s left", steps[3])
    first, *_, last = [line for line in lines if "validation" in line]
    assert re.fullmatch(r"step: 2 of 4, epoch 1, batch 1 of validation, loss \d\.\d{4}, \d+ s left", first)
    assert re.fullmatch(r"step: 4 of 4, epoch 2, batch \d of validation, loss \d\.\d{4}, 0 s left", last)


def test_it_says_so_only_now_and_then(train, capfd: pytest.CaptureFixture[str]) -> None:
    train(*SHORT)
    assert "step: " not in capfd.readouterr().err


class Grey(Dataset[SemanticSample]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> SemanticSample:
        return SemanticSample(torch.full((3, 32, 32), 90, dtype=torch.uint8), torch.zeros((32, 32), dtype=torch.uint8))


@pytest.mark.usefixtures("always")
def test_the_network_says_step_loss_and_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    overrides = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    config = ModelConfig("vit_small_patch14_reg4_dinov2", (32, 32), 16, 1, 1, 1, backbone_overrides=overrides)
    train_network(EoMTExt(config).network, Grey(), NetworkTraining(steps=2, batch_size=1, bf16=False))
    first, second = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"network, step: 1 of 2, loss \d+\.\d{3}, \d+ s left", first)
    assert re.fullmatch(r"network, step: 2 of 2, loss \d+\.\d{3}, 0 s left", second)
