"""State dicts in the layouts met in the wild, made from a tiny random model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_ext_core import CheckpointError, EoMTExt, load_model


@pytest.fixture(scope="session")
def official_state() -> Callable[..., dict[str, Tensor]]:
    """As the EoMT repository saves it: all under ``network.``, with the annealing state and the loss's weight."""

    def make(model: EoMTExt, prefix: str = "network.", probs: Tensor | None = None) -> dict[str, Tensor]:
        state = {prefix + key: value.clone() for key, value in model.network.state_dict().items()}
        if model.anomaly_head is not None:
            head = model.anomaly_head.state_dict()
            state |= {f"{prefix}anomaly_head.{key}": value.clone() for key, value in head.items()}
        state[prefix + "attn_mask_probs"] = torch.zeros(model.config.num_blocks) if probs is None else probs
        state["criterion.empty_weight"] = torch.ones(model.config.num_classes + 1)
        return state

    return make


@pytest.fixture(scope="session")
def image() -> Callable[..., Tensor]:
    def make(batch: int = 2, crop_hw: tuple[int, int] = (64, 96), seed: int = 9) -> Tensor:
        return torch.rand(batch, 3, *crop_hw, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def refused() -> Callable[..., float]:
    """Load a file that is to be refused; gives how many MiB resident memory grew at its peak."""

    def load(path: Path, message: str, known: dict[str, Any] | None = None) -> float:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kib("VmRSS")
        with pytest.raises(CheckpointError, match=message):
            load_model(path, known)
        return (_status_kib("VmHWM") - before) / 1024

    return load


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
