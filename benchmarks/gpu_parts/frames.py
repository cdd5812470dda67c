"""Whole frames, from a uint8 array to a probability as an array: distribution, stages, throughput, use of the GPU."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu_parts.setting import Setting, Size, images
from benchmarks.gpu_parts.timing import summary, wall_ms
from eomt_ext_core import AnomalyEngine, windows
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.flops import MatrixCeiling, count_window_flops
from eomt_ext_core.config import WindowConfig

_WARM_UPS = 30
_STAGED = 50


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    yield {"ceiling_tflops": _ceiling(setting)}
    for found in _of(setting, setting.main):
        yield {setting.main: found}


def measure_others(setting: Setting) -> Iterator[dict[str, Any]]:
    for name in setting.others:
        for found in _of(setting, name):
            yield {name: found}


def measure_cameras(setting: Setting) -> Iterator[dict[str, Any]]:
    """Six cameras at once."""
    for name in dict.fromkeys((setting.main, setting.smallest)):
        yield {name: _of_cameras(setting, name)}


def _of_cameras(setting: Setting, name: str) -> dict[str, Any]:
    engine, batch = setting.engine(name, images=6), images(setting.camera_hw, 6)
    for _ in range(3):
        engine.infer_batch(batch)
    count = max(1, setting.frames // 5)
    return summary([wall_ms(lambda: engine.infer_batch(batch)) for _ in range(count)])


def measure_memory(setting: Setting) -> Iterator[dict[str, Any]]:
    """What a long run allocates once it is warm."""
    engine, batch = setting.engine(setting.smallest), images(setting.camera_hw)
    for index in range(min(_WARM_UPS, setting.long_run)):
        engine.infer(batch[index % len(batch)])
    before, start = _held(setting), time.perf_counter()
    for index in range(setting.long_run):
        engine.infer(batch[index % len(batch)])
    seconds = time.perf_counter() - start
    yield {"frames": setting.long_run, "seconds": seconds, "before": before, "after": _held(setting)}


def _held(setting: Setting) -> dict[str, int]:
    with open("/proc/self/statm", encoding="ascii") as file:
        held = {"host_pages": int(file.read().split()[1])}
    if setting.on_gpu:
        stats = torch.cuda.memory_stats(setting.torch_device)
        for name in ("num_device_alloc", "num_alloc_retries", "reserved_bytes.all.current"):
            held[name] = int(stats[name])
    return held


def _ceiling(setting: Setting) -> float:
    ceiling = MatrixCeiling(setting.torch_device, setting.precision, 256 if setting.quick else None)
    return ceiling.flops_per_s(3 if setting.quick else 30) / 1e12


def _of(setting: Setting, name: str) -> Iterator[dict[str, Any]]:
    """Give the figures of a model, more of them each time."""
    model = setting.model(name)
    flops = sum(count_window_flops(model))
    del model
    engine = setting.engine(name)
    found: dict[str, Any] = {"describe": engine.describe()}
    for image_hw in setting.images_hw:
        count = windows.count(image_hw, engine.crop_hw, WindowConfig())
        found[f"{image_hw[1]}x{image_hw[0]}"] = {
            "windows": count,
            "gflop": count * flops / 1e9,
            **_frames(setting, engine, image_hw),
            "stages_ms": _stages_ms(setting, engine, image_hw),
            "in_flight": _in_flight(setting, engine, image_hw),
        }
        yield found
    if setting.on_gpu:
        yield found | {"peak_mib": torch.cuda.max_memory_reserved(setting.torch_device) / 2**20}


def _frames(setting: Setting, engine: AnomalyEngine, image_hw: Size) -> dict[str, Any]:
    batch = images(image_hw)
    for index in range(min(_WARM_UPS, setting.frames)):
        engine.infer(batch[index % len(batch)])
    return summary([wall_ms(lambda: engine.infer(batch[index % len(batch)])) for index in range(setting.frames)])  # noqa: B023


def _stages_ms(setting: Setting, engine: AnomalyEngine, image_hw: Size) -> dict[str, float]:
    found = defaultdict(list)
    for _ in range(min(_STAGED, setting.frames)):
        clock = StageClock(setting.torch_device)
        with engine.marking(clock.mark):
            engine.infer(images(image_hw)[0])
        for stage, seconds in clock.durations_s().items():
            found[stage].append(1000 * seconds)
    return {stage: statistics.median(times) for stage, times in found.items()}


def _in_flight(setting: Setting, engine: AnomalyEngine, image_hw: Size) -> dict[str, Any]:
    """Measure the throughput with two frames on their way."""
    batch, waiting = images(image_hw), None
    start = time.perf_counter()
    for index in range(setting.frames):
        submitted = engine.submit([batch[index % len(batch)]])
        if waiting is not None:
            engine.collect(waiting)
        waiting = submitted
    engine.collect(waiting)
    return {"frames": setting.frames, "ms_per_frame": 1000 * (time.perf_counter() - start) / setting.frames}
