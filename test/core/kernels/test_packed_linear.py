"""Packed linear layers beside those of torch, and what happens where they cannot be relied on."""

import copy
import logging
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from eomt_ext_core.kernels.packed_linear import PackedLinear, packs

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1 / 64}


@pytest.fixture
def anew() -> Iterator[None]:
    packs.cache_clear()
    yield
    packs.cache_clear()


@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_a_linear_layer(dtype: torch.dtype, gelu: bool, with_bias: bool) -> None:
    if not packs(dtype):
        pytest.skip("this machine packs no such weights")
    generator = torch.Generator().manual_seed(3)
    tokens, weight, bias = (torch.randn(size, generator=generator).to(dtype) for size in ((2, 77, 48), (96, 48), (96,)))
    tokens[1, 4, 5], tokens[1, 6, 7] = torch.nan, torch.inf
    layer = PackedLinear(weight, bias if with_bias else None, gelu=gelu)
    expected = F.linear(tokens, weight, bias if with_bias else None)
    expected = F.gelu(expected) if gelu else expected
    weight.zero_()  # it has a copy
    atol = BOUNDS[dtype] * float(expected[0].abs().max())
    with torch.inference_mode():
        torch.testing.assert_close(layer(tokens), expected, atol=atol, rtol=0, equal_nan=True)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            torch.testing.assert_close(twin(tokens), layer(tokens), atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("result", "says"), [(RuntimeError("no such operator"), "no such operator"), (torch.zeros(9, 40), "not close")]
)
@pytest.mark.usefixtures("anew")
def test_an_operator_that_fails_or_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, result: object, says: str
) -> None:
    def forward(*_: object) -> object:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(PackedLinear, "forward", forward)
    with caplog.at_level(logging.WARNING):
        assert not packs(torch.float32)
    assert f"linear layers in torch.float32 are not packed: {says}" in caplog.text.replace("Tensor-likes are ", "")


@pytest.mark.usefixtures("anew")
def test_other_processors_and_types_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not packs(torch.float64)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not packs(torch.float32)
