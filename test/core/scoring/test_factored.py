from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eomt_ext_core.config import HeadConfig
from eomt_ext_core.scoring import factored
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored import FactoredHead
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics

FEATURE_DIM = 48
Inputs = tuple[Tensor, Tensor, tuple[int, int], Tensor]
Randomise = Callable[[nn.Module, int], None]


def make_inputs(batch: int, size_hw: tuple[int, int], seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    masks = 6 * torch.randn(batch, 7, 16, 24, generator=generator)
    classes = 4 * torch.randn(batch, 7, 6, generator=generator)
    return masks, classes, size_hw, torch.randn(batch, FEATURE_DIM, 4, 6, generator=generator)


def literal(head: PixelAnomalyHead, inputs: Inputs) -> Tensor:
    masks, classes, size_hw, features = inputs
    with torch.no_grad():
        return head(statistics(semantic_map(masks, classes, size_hw)), features)


def make_head(feature_proj_dim: int | None, randomise: Randomise, gain: float = 1.0) -> PixelAnomalyHead:
    head = PixelAnomalyHead(FEATURE_DIM, HeadConfig(64, 0.3, feature_proj_dim)).eval()
    randomise(head, 5)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(gain)
    return head


@pytest.mark.parametrize("feature_proj_dim", [None, 32])
@pytest.mark.parametrize("size_hw", [(64, 96), (50, 71), (16, 24), (13, 9), (1, 1), (129, 40)])
def test_logits_are_those_of_the_literal_form(
    feature_proj_dim: int | None, size_hw: tuple[int, int], randomise: Randomise
) -> None:
    head = make_head(feature_proj_dim, randomise)
    inputs = make_inputs(2, size_hw)
    expected = literal(head, inputs)
    logits = FactoredHead(head)(*inputs)
    assert logits.shape == (2, *size_hw, 1)
    assert logits.dtype == torch.float32
    if expected.numel() > 100:
        assert expected.std() > 0.1
    assert (logits - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("feature_proj_dim", [None, 32])
def test_large_weights_keep_the_relative_precision(feature_proj_dim: int | None, randomise: Randomise) -> None:
    head = make_head(feature_proj_dim, randomise, gain=3.0)
    inputs = make_inputs(3, (50, 71))
    expected = literal(head, inputs)
    assert expected.abs().max() > 20
    assert (FactoredHead(head)(*inputs) - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("rows", [1, 7, 49, 50])
def test_bands_need_not_divide_the_height(rows: int, randomise: Randomise, monkeypatch: pytest.MonkeyPatch) -> None:
    head = make_head(32, randomise)
    inputs = make_inputs(2, (50, 71))
    monkeypatch.setattr(factored, "CPU_BAND_FLOATS", rows * 71 * (7 + 64))
    assert (FactoredHead(head)(*inputs) - literal(head, inputs)).abs().max() <= 1e-5


def test_dropout_is_off_even_for_a_head_in_training(randomise: Randomise) -> None:
    head = make_head(32, randomise)
    inputs = make_inputs(1, (20, 30))
    expected = literal(head, inputs)
    assert (FactoredHead(head.train())(*inputs) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("feature_proj_dim", [None, 32])
def test_later_changes_of_the_head_do_not_reach_the_copy(feature_proj_dim: int | None, randomise: Randomise) -> None:
    head = make_head(feature_proj_dim, randomise)
    inputs = make_inputs(1, (20, 30))
    fast = FactoredHead(head)
    before = fast(*inputs)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(1.0)
    assert torch.equal(fast(*inputs), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_near(dtype: torch.dtype, scoring_case: Callable[..., Any]) -> None:
    case = scoring_case((64, 96), (16, 24), (4, 6), queries=20, hidden=256, dtype=dtype)
    logits = FactoredHead(case.head)(*case.inputs)
    assert logits.dtype == torch.float32
    assert (logits - case.logits).abs().max() <= 0.02 * case.logits.abs().max()


def test_inputs_are_left_as_they_are(randomise: Randomise) -> None:
    inputs = make_inputs(1, (16, 24))
    copies = [part.clone() if isinstance(part, Tensor) else part for part in inputs]
    FactoredHead(make_head(None, randomise))(*inputs)
    for part, copied in zip(inputs, copies, strict=True):
        if isinstance(part, Tensor):
            assert torch.equal(part, copied)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype, randomise: Randomise) -> None:
    head = FactoredHead(make_head(32, randomise))
    inputs = make_inputs(2, (50, 71))
    expected = head(*inputs)
    with torch.autocast("cpu", dtype):
        assert torch.equal(head(*inputs), expected)
