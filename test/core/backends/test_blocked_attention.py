import pytest
import torch
from torch.nn import functional as F

from eomt_ext_core.backends import blocked_attention as module
from eomt_ext_core.backends.blocked_attention import BlockedAttention, blocked_attention


@pytest.mark.parametrize("block_bytes", [1 << 20, 150, 1])
@pytest.mark.parametrize("width", [64, 24])
def test_blocks_give_what_attention_does(block_bytes: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 37, width, generator=generator).bfloat16() for _ in range(3))
    expected = F.scaled_dot_product_attention(query.double(), key.double(), value.double())
    found = blocked_attention(query, key, value).double()
    assert (found - expected).square().mean().sqrt() < 0.01 * expected.std()


def test_only_plain_attention_in_bfloat16_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []
    monkeypatch.setattr(module, "blocked_attention", lambda *parts: replaced.append(parts[0].dtype))
    single = torch.zeros(1, 1, 4, 8)
    half, mask = single.bfloat16(), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with BlockedAttention():
        F.scaled_dot_product_attention(single, single, single)
        F.scaled_dot_product_attention(half, half, half, attn_mask=mask)
        F.scaled_dot_product_attention(half, half, half, is_causal=True)
        assert replaced == []
        F.scaled_dot_product_attention(half, half, half, attn_mask=None, dropout_p=0.0)
    F.scaled_dot_product_attention(half, half, half)
    assert replaced == [torch.bfloat16]
