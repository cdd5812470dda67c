"""Attention in bfloat16 on CPUs that have products in it, but no tiles (AMX)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# What is between the two products of a block stays in the caches: for each thread 650 rows of 1,600 logits are 2 MB.
_BLOCK_BYTES = 2 << 20


class BlockedAttention(TorchFunctionMode):
    """Within this context, run ``scaled_dot_product_attention`` in bfloat16 as products over blocks of rows.

    torch's own goes through single precision, at half the speed on such a CPU. Logits and probabilities are rounded to
    bfloat16 here, as autocast does without fused attention. Calls with a mask, another type or dropout are left alone.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace the one function; see :class:`torch.overrides.TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _fits(args, kwargs):
            return blocked_attention(*args[:3])
        return func(*args, **kwargs)


def blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(q kᵀ / √d) v for (B, H, N, d) bfloat16, by blocks of the rows of a head.

    The queries are divided first: exactly for the usual d of 64, else rounded to bfloat16 once more.
    """
    batch, heads, count, width = query.shape
    rows = max(1, _BLOCK_BYTES * torch.get_num_threads() // (key.shape[2] * query.element_size()))
    scaled = query * width**-0.5
    result = query.new_empty((batch, heads, count, value.shape[3]))
    for image in range(batch):
        for head in range(heads):
            keys, values = key[image, head].contiguous(), value[image, head].t().contiguous()
            for row in range(0, count, rows):
                logits = F.linear(scaled[image, head, row : row + rows], keys)
                result[image, head, row : row + rows] = F.linear(logits.softmax(-1), values)
    return result


def _fits(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    settings = (*args[3:], *kwargs.values())
    is_plain = all(value is None or (isinstance(value, int | float) and not value) for value in settings)
    return len(args) >= 3 and is_plain and args[0].dtype == torch.bfloat16 and args[0].ndim == 4
