"""State dicts in the layouts met in the wild, made from a tiny random model."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eomt_ext_core import EoMTExt


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
