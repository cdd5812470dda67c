"""Which functions run operators in a frame, and which of those allocate, copy or wait: what a frame costs by place."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import eomt_ext_core

_ROOT = Path(eomt_ext_core.__file__).parent
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::clone", "aten::cat", "aten::stack"}
_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}  # on a GPU, for the device


class Places(TorchDispatchMode):
    """Within this context, count operators by the function of ours that is the nearest to them.

    Views cost nothing on the device and are not counted. What a CUDA graph replays is one launch, and no operator.

    Attributes:
        counts: by ``file, function``: ``operators``, and of those what ``allocates``, ``copies`` and ``waits``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before, after = _memory((args, kwargs)), _memory(result)
        if after <= before and after and not func._schema.is_mutable:
            return result
        name, count = func._schema.name, self.counts[_place()]
        count["operators"] += 1
        count["allocates"] += bool(after - before)
        count["copies"] += name in _COPIES
        count["waits"] += name in _WAITS
        return result


def _memory(values: Any) -> set[int]:
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def _place() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and frame.f_code.co_name != "__torch_function__":  # which all calls pass through
            return f"{path.relative_to(_ROOT)}, {getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"
        frame = frame.f_back
    return "others"
