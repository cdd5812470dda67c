"""The network with packed linear layers beside the one without."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig
from eomt_ext_core.backends import packing
from eomt_ext_core.backends.inference_network import inference_network
from eomt_ext_core.backends.packing import pack_linear_layers
from eomt_ext_core.backends.parts import GeluLinear
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.kernels.packed_linear import packs
from eomt_ext_core.scoring import factored

CPU = torch.device("cpu")
SIZES = {"embed_dim": 32, "depth": 3, "num_heads": 2}
DINOV3 = ModelConfig(
    "vit_small_patch16_dinov3_qkvb", (64, 96), num_queries=6, num_classes=5, num_blocks=2, backbone_overrides=SIZES
)
needs_packing = pytest.mark.skipif(not packs(torch.float32), reason="this machine packs no weights")
Make = Callable[..., EoMTExt]


@needs_packing
@pytest.mark.parametrize("family", ["dinov2", "dinov3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_network_stays_the_same(tiny_model: Make, randomise: Make, family: str, dtype: torch.dtype) -> None:
    model = tiny_model() if family == "dinov2" else EoMTExt(DINOV3).eval()
    randomise(model, 4)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    expected = inference_network(model.network, CPU, dtype)(images)
    network = inference_network(model.network, CPU, dtype)
    # three blocks of four layers, three of the mask head, the class head, and two that upscale
    assert pack_linear_layers(network) == 18
    assert not any(isinstance(part, nn.Linear | GeluLinear) for part in network.modules())
    for found, wanted in zip(network(images), expected, strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)
        else:
            assert (found.float() - wanted.float()).abs().mean() <= 0.03 * wanted.float().std()


def test_without_packing_all_stays_with_torch(tiny_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, windows = tiny_model(HeadConfig(16)), torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    packed = TorchWindowScorer(model, CPU)(windows, ("head",))
    for module in (packing, factored):
        monkeypatch.setattr(module, "packs", lambda dtype: False)
    plain = TorchWindowScorer(model, CPU)
    assert "parts" not in plain.describe()
    torch.testing.assert_close(plain(windows, ("head",)), packed, atol=1e-4, rtol=1e-4)


def test_a_torch_without_the_epilogue_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GeluLinear(nn.Linear(4, 4)).ways == ("torch", "epilogue")
    monkeypatch.delattr(torch, "_addmm_activation")
    assert GeluLinear(nn.Linear(4, 4)).ways == ("torch",)
