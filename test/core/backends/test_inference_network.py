from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eomt_ext_core import EoMTExt
from eomt_ext_core.backends.inference_network import ChannelsLastUpscaleBlock, inference_network
from eomt_ext_core.model.eomt import EoMT
from eomt_ext_core.model.upscale import UpscaleBlock

CPU = torch.device("cpu")
Make = Callable[..., EoMTExt]


def pictures(count: int, network: EoMT) -> Tensor:
    return torch.rand(count, 3, *network.config.crop_hw, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changes", [{}, {"masked_attention": True}, {"patch_size": 8, "crop_hw": (32, 48)}])
@torch.inference_mode()
def test_it_is_the_same_function(tiny_model: Make, changes: dict[str, Any]) -> None:
    network = tiny_model(**changes).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = pictures(2, network)
    expected = network(images)
    for fast, literal in zip(inference_network(network, CPU, torch.float32)(images), expected, strict=True):
        torch.testing.assert_close(fast, literal, atol=1e-4, rtol=0)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_keeps_float32_residual_stream(tiny_model: Make, dtype: torch.dtype) -> None:
    network = tiny_model().network
    fast = inference_network(network, CPU, dtype)
    images = pictures(1, network)
    tokens, _ = fast.encoder.embed(images)
    assert tokens.dtype == torch.float32
    block = fast.encoder.backbone.blocks[0]
    assert block(tokens).dtype == torch.float32
    assert {block.attn.qkv.weight.dtype, block.mlp.fc1.weight.dtype, fast.mask_head[0].weight.dtype} == {dtype}
    for rough, exact in zip(fast(images), network(images), strict=True):
        assert rough.dtype == dtype
        assert (rough.float() - exact).abs().mean() < 0.03 * exact.std()


@torch.inference_mode()
def test_upscaling_by_hand() -> None:
    """One channel, weight w of the successor (i, j): the value 2 becomes 2·w + bias there, which GELU keeps."""
    block = UpscaleBlock(1)
    block.conv1.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert block.conv1.bias is not None
    block.conv1.bias.fill_(10.0)
    fast = ChannelsLastUpscaleBlock(block)
    fast.mix.conv2, fast.mix.norm = nn.Identity(), nn.LayerNorm(1, elementwise_affine=False)  # type: ignore[assignment]
    seen: list[torch.Tensor] = []
    fast.mix.conv2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    fast(torch.tensor([[[[2.0, 5.0]]]]))
    assert seen[0].tolist() == [[[[12.0, 14.0, 15.0, 20.0], [16.0, 18.0, 25.0, 30.0]]]]


def test_it_compiles_as_one_piece(tiny_model: Make) -> None:
    """By the tracer alone: to generate code takes minutes on a CPU."""
    torch._dynamo.reset()  # of what other tests compiled: a process may compile a function only so many times
    network = inference_network(tiny_model().network, CPU, torch.float32)
    images = (255 * pictures(1, network)).byte()
    with torch.inference_mode():
        expected = network(images)
        traced = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)(images)
    torch.testing.assert_close(traced.mask_logits, expected.mask_logits)
