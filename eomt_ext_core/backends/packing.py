"""The linear layers of a network on a CPU, packed if this machine can."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from eomt_ext_core.backends.parts import GeluLinear
from eomt_ext_core.kernels.packed_linear import PackedLinear, packs


def pack_linear_layers(network: nn.Module) -> int:
    """Replace the linear layers of a network for inference on a CPU, those with a GELU together with it.

    Args:
        network: from :func:`~eomt_ext_core.backends.inference_network.inference_network`; changes.

    Returns:
        how many were replaced: none of a type that this machine does not pack.
    """
    count = 0
    for module in list(network.modules()):
        if getattr(module, "q_bias", None) is not None:
            _join_biases(module)
        for name, child in list(module.named_children()):
            if (type(child) is nn.Linear or isinstance(child, GeluLinear)) and packs(child.weight.dtype):
                packed = PackedLinear(child.weight, child.bias, gelu=isinstance(child, GeluLinear))
                setattr(module, name, packed)
                count += 1
    return count


def _join_biases(attention: Any) -> None:
    """Give the biases of timm's ``EvaAttention`` to the layer that they belong to, which it then calls as a whole."""
    joined = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    attention.qkv.bias = nn.Parameter(joined, requires_grad=False)
    attention.q_bias = attention.k_bias = attention.v_bias = None
