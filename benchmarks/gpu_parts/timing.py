"""Times of short work on the device, and their summaries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

_IN_A_GRAPH, _REPLAYS = 20, 15


def device_us(function: Callable[[], object], device: torch.device) -> float:
    """Measure the microseconds of one call: on a GPU without launches, by events around replays of a graph."""
    if device.type != "cuda":
        return _host_us(function)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_IN_A_GRAPH):
            function()
    return event_us(graph.replay, device, _REPLAYS) / _IN_A_GRAPH


def event_us(function: Callable[[], object], device: torch.device, times: int = 50) -> float:
    """Measure the microseconds of one call as the device sees it: the median of several."""
    if device.type != "cuda":
        return _host_us(function)
    found = []
    for index in range(times + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        if index >= 3:
            found.append(1000 * begin.elapsed_time(end))
    return statistics.median(found)


def _host_us(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1e6 * (time.perf_counter() - start)


def wall_ms(function: Callable[[], object]) -> float:
    """Measure the milliseconds of one call that waits for its result."""
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def summary(times_ms: Sequence[float]) -> dict[str, Any]:
    p50, p99 = (float(np.percentile(times_ms, percent)) for percent in (50, 99))
    return {"frames": len(times_ms), "p50_ms": p50, "p99_ms": p99, "most_ms": max(times_ms)}
