"""The parts of the network in all their ways, and the choice between these; kernels run in Triton's interpreter."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_ext_core import EoMTExt
from eomt_ext_core.backends.inference_network import inference_network
from eomt_ext_core.backends.parts import GeluLinear, InferenceBlock, Part, RoundedNorm, choose_ways
from eomt_ext_core.kernels import choice
from eomt_ext_core.kernels.choice import fastest

CPU = torch.device("cpu")
Make = Callable[..., EoMTExt]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_way_gives_the_same_network(
    precision: torch.dtype, tiny_model: Make, interpreted: Callable[..., Any]
) -> None:
    pytest.importorskip("triton")
    network = tiny_model(crop_hw=(16, 32)).network
    windows = torch.randint(0, 256, (2, 3, 16, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = inference_network(network, CPU, torch.float32)(windows)
    fast = inference_network(network, CPU, precision)
    for part in fast.modules():
        if isinstance(part, Part):
            part.way = part.ways[-1]
    for other, exact in zip(interpreted(fast, windows), expected, strict=True):
        assert other.dtype == precision
        difference = (other.float() - exact).abs()
        if precision == torch.float32:
            assert difference.max() <= 1e-3 * exact.abs().max()
        else:
            assert difference.mean() <= 0.03 * exact.std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_epilogue_is_a_linear_layer_and_a_gelu(dtype: torch.dtype) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, tokens = GeluLinear(torch.nn.Linear(16, 24).to(dtype)), torch.randn(2, 5, 16).to(dtype)
    with torch.inference_mode():
        expected, found = layer.by_torch(tokens), layer.by_epilogue(tokens)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=1e-3 if dtype == torch.float32 else 1e-2, rtol=0)


def test_the_embedding_of_still_windows_is_never_tf32(tiny_model: Make) -> None:
    encoder = inference_network(tiny_model().network, CPU, torch.bfloat16).encoder
    seen = []
    encoder.backbone.patch_embed.proj.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    encoder.embedding._make_weights(torch.zeros((1, 3, 64, 96), dtype=torch.uint8))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[Any, float]:
    """Microseconds of ways by what they return, in the place of a clock on the device; nothing is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    given: dict[Any, float] = {}
    monkeypatch.setattr(choice, "time_us", lambda way, device: given[round(float(way().abs().max()), 3)])
    return given


def test_the_fastest_way_that_agrees_is_chosen(times: dict[Any, float], caplog: pytest.LogCaptureFixture) -> None:
    times.update({1.0: 90.0, 1.001: 50.0, 1.002: 70.0, 2.0: 1.0})
    ways = {"plain": torch.ones(3), "b": 1.001 * torch.ones(3), "c": 1.002 * torch.ones(3), "wrong": 2 * torch.ones(3)}
    calls = {name: (lambda result=result: result) for name, result in ways.items()}
    with caplog.at_level(logging.INFO):
        assert fastest("a sum", calls, 0.01, CPU, "3") == "b"
    assert "a sum by wrong differs by 1 from plain: not used on cpu" in caplog.text
    assert "a sum on cpu by b: plain 90 µs, b 50 µs, c 70 µs" in caplog.text
    times[1.0] = 10.0
    assert fastest("another sum", calls, 0.01, CPU, "3") == "plain"


def test_what_is_not_finite_is_no_measure(times: dict[Any, float]) -> None:
    broken = {"plain": lambda: torch.full((2,), torch.nan), "b": lambda: torch.ones(2)}
    assert fastest("a sum", broken, 0.01, CPU, "2") == "plain"
    times[1.0] = 1.0
    ways = {"plain": lambda: torch.ones(2), "b": lambda: torch.full((2,), torch.nan)}
    assert fastest("a sum", ways, 1.0, CPU, "2") == "plain"


def test_parts_alike_are_chosen_together(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    network = inference_network(tiny_model().network, CPU, torch.float32)
    seen = []

    def last(what: str, ways: dict[str, Callable[[], Tensor]], *_: Any) -> str:
        seen.append((what, ways["torch"]().shape))
        return list(ways)[-1]

    monkeypatch.setattr("eomt_ext_core.backends.parts.fastest", last)
    windows = torch.zeros((1, 3, *network.config.crop_hw), dtype=torch.uint8)
    chosen = choose_ways(network, lambda: network(windows), CPU)
    assert chosen.pop("GeluLinear") == "epilogue"
    assert chosen == dict.fromkeys(("PatchEmbedding", "RoundedNorm", "MixAndNorm"), "triton")
    # 24 patches with 5 other tokens, in the last blocks with 6 queries; each alone, and with what attention adds
    norms = [shape for what, shape in seen if what == "RoundedNorm"]
    assert norms == [(1, 29, 32), (1, 29, 32), (1, 35, 32), (1, 35, 32)]
    parts = [part for part in network.modules() if isinstance(part, Part)]
    assert {part.way for part in parts} == {"triton", "epilogue"}
    assert not any(part._forward_pre_hooks for part in parts)


def test_a_way_is_of_inputs_of_one_shape(tiny_model: Make) -> None:
    block = inference_network(tiny_model().network, CPU, torch.float32).encoder.backbone.blocks[0]
    assert isinstance(block, InferenceBlock)
    assert isinstance(block.norm1, RoundedNorm)
    assert isinstance(block.mlp.fc1, GeluLinear)
