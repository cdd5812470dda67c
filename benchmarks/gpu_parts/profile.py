"""What runs in the steady state of a frame: kernels by time, and calls that allocate, copy, wait or launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_parts.places import Places
from benchmarks.gpu_parts.setting import Setting, images

_MOST_ROWS = 40
_CALLS = ("cudaMalloc", "cudaFree", "cudaHostAlloc", "Synchronize", "cudaMemcpy", "cudaLaunch", "cuLaunch", "cudaGraph")


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
