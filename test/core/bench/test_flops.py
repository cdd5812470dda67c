import pytest
import torch

from eomt_ext_core import EoMTExt
from eomt_ext_core.bench import flops
from eomt_ext_core.bench.flops import MatrixCeiling, count_window_flops


def test_the_arithmetic_of_a_window_counted_by_hand(small_model: EoMTExt) -> None:
    """Embedding dim 32, 3 blocks of which 2 see 6 queries, 16 patches and 5 more tokens; 5 + 1 classes."""
    dim, patches, queries, hidden = 32, 16, 6, 16
    tokens = patches + 5
    embedding = patches * 3 * 16 * 16 * dim
    block = [length * 12 * dim * dim + 2 * length * length * dim for length in (tokens, *[tokens + queries] * 2)]
    heads = queries * (3 * dim * dim + dim * 6)
    up = sum(area * (4 * dim * dim + 4 * 9 * dim) for area in (patches, 4 * patches))
    masks = queries * dim * 16 * patches
    network, scoring = count_window_flops(small_model)
    assert network == 2 * (embedding + sum(block) + heads + up + masks)

    pixels = 64 * 64
    per_pixel = queries * 5 + 3 * hidden + hidden * hidden // 2 + hidden // 2
    assert scoring == 2 * (patches * dim * hidden + pixels * per_pixel)


def test_counting_leaves_the_model_where_it_is(small_model: EoMTExt) -> None:
    count_window_flops(small_model)
    assert {parameter.device.type for parameter in small_model.parameters()} == {"cpu"}


def test_the_ceiling_is_a_rate() -> None:
    rate = MatrixCeiling(torch.device("cpu"), "fp32", side=64).flops_per_s(times=2)
    assert 1e6 < rate < 1e15


def test_the_ceiling_is_that_of_the_faster_product(monkeypatch: pytest.MonkeyPatch) -> None:
    class Immediate:
        def __init__(self, weight: torch.Tensor, bias: None) -> None:
            self.result = weight

        def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.result

    rates = []
    monkeypatch.setattr(flops, "PackedLinear", Immediate)
    for packed in (False, True):
        monkeypatch.setattr(flops, "packs", lambda dtype, packed=packed: packed)
        rates.append(MatrixCeiling(torch.device("cpu"), "fp32", side=512).flops_per_s())
    assert rates[1] > 10 * rates[0]
