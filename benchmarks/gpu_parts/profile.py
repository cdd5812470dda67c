"""What runs in the steady state of a frame: by place, what allocates, copies or waits; kernels by time; CUDA calls."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import eomt_ext_core
from benchmarks.gpu_parts.setting import Setting, images

_MOST_ROWS = 40
_CALLS = ("cudaMalloc", "cudaFree", "cudaHostAlloc", "Synchronize", "cudaMemcpy", "cudaLaunch", "cuLaunch", "cudaGraph")
_ROOT = Path(eomt_ext_core.__file__).parent
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::clone", "aten::cat", "aten::stack"}
_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}  # on a GPU, for the device


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    engine, image = setting.engine(setting.main), images(setting.images_hw[0])[0]
    for _ in range(20 if setting.on_gpu else 1):
        engine.infer(image)
    with Places() as places:
        engine.infer(image)
    ranked = sorted(places.counts.items(), key=lambda item: -item[1]["operators"])
    yield {"places": {place: dict(count) for place, count in ranked}}
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_gpu else [])]
    with profile(activities=activities, profile_memory=not setting.on_gpu) as recorded:
        engine.infer(image)
        if setting.on_gpu:
            torch.cuda.synchronize(setting.torch_device)
    rows = sorted(recorded.key_averages(), key=lambda row: -_own_us(row, setting))
    calls = Counter({row.key: row.count for row in rows if any(name in row.key for name in _CALLS)})
    on_device = [row for row in rows if _own_us(row, setting) > 0]
    yield {
        "kernels": sum(row.count for row in on_device),
        "device_us": sum(_own_us(row, setting) for row in on_device),
        "calls": dict(calls.most_common()),
        "rows": [
            {"name": row.key[:120], "count": row.count, "us": _own_us(row, setting)} for row in on_device[:_MOST_ROWS]
        ],
    }


def _own_us(row: Any, setting: Setting) -> float:
    if not setting.on_gpu:
        return float(row.self_cpu_time_total)
    return float(row.self_device_time_total) if row.device_type == torch.autograd.DeviceType.CUDA else 0.0


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
