"""Linear layers on x86 CPUs with their weights in the order in which oneDNN multiplies them.

``F.linear`` puts 16-bit weights into that order in every call, and leaves float32 to MKL, which is half as fast on CPUs
that are not Intel's. The operators are those that torch.compile writes into its code. They are not public, so
:func:`packs` tries them before anything relies on them.
"""

from __future__ import annotations

import logging
import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BOUND = {torch.float32: 1e-5, torch.bfloat16: 1 / 64}  # of the largest result of a trial

_log = logging.getLogger(__name__)


class PackedLinear(nn.Module):
    """A linear layer with packed weights, if wanted with the exact GELU in the same pass.

    There is no ReLU: oneDNN's makes 0 of NaN. Holds a copy of the weights; for inference only, on the CPU.

    Args:
        weight: (D, C), of a type that :func:`packs`.
        bias: (D,), of the same type, or none.
        gelu: whether a GELU follows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self.bias = None if bias is None else bias.detach().clone()
        self._after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def __getstate__(self) -> dict[str, Any]:
        """Unpack the weights for a copy or another process: packed ones have no storage to copy."""
        return {**self.__dict__, "_weight": self._weight.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pack them again."""
        self.__dict__.update(state, _weight=torch.ops.mkldnn._reorder_linear_weight(state["_weight"]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute (…, C) to (…, D)."""
        result: Tensor = torch.ops.mkldnn._linear_pointwise(tokens, self._weight, self.bias, *self._after)
        return result


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether weights of this type can be packed on this machine: tries it, and compares with ``F.linear``, NaN too."""
    if platform.machine() not in ("x86_64", "AMD64") or dtype not in _BOUND:
        return False
    generator = torch.Generator().manual_seed(0)
    tokens, weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((9, 24), (40, 24), (40,)))
    tokens[0, 0] = torch.nan
    product = F.linear(tokens, weight, bias)
    try:
        with torch.inference_mode():
            for gelu, expected in ((False, product), (True, F.gelu(product))):
                found = PackedLinear(weight, bias, gelu=gelu)(tokens)
                atol = _BOUND[dtype] * float(expected[1:].abs().max())
                torch.testing.assert_close(found, expected, atol=atol, rtol=0, equal_nan=True)
    except (AttributeError, RuntimeError, AssertionError) as error:
        _log.warning("linear layers in %s are not packed: %s", dtype, error)
        return False
    return True
