from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.memory import Memory, MemoryWatch

CPU = torch.device("cpu")
MIB = 2**20


def test_parts_of_a_stage_are_added_without_skips() -> None:
    clock = StageClock(CPU)
    times = [("", 1.0), ("network", 3.0), ("scoring", 3.5), ("network", 4.5), ("", 9.0), ("outputs", 9.25)]
    clock._marks = [(stage, end, 1) for stage, end in times]
    assert clock.durations_s() == {"network": 3.0, "scoring": 0.5, "outputs": 0.25}


def test_what_was_done_several_times_counts_as_once() -> None:
    clock = StageClock(CPU)
    clock._marks = [("", 1.0, 1), ("scoring", 3.0, 4), ("outputs", 4.0, 1), ("scoring", 5.0, 4)]
    assert clock.durations_s() == {"scoring": 0.75, "outputs": 1.0}


def test_peak_is_the_maximum_and_resets() -> None:
    watch = MemoryWatch(CPU)
    held = np.ones(64 * MIB, np.uint8)
    watch.start()
    passing = np.ones(128 * MIB, np.uint8)
    del passing
    first = watch.read()
    assert 60 * MIB < first.held < 100 * MIB
    assert 120 * MIB < first.peak - first.held < 160 * MIB
    watch.start()
    second = watch.read()
    assert second.peak - second.held < 32 * MIB
    assert held.all()
    assert Path("/proc/self/status").exists()


def test_on_a_gpu_what_torch_has_taken_of_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torch's allocator: 70 MiB of graphs and weights, of which 20 count as allocated, and 30 kept."""
    state: dict[str, Any] = {"reserved": 100 * MIB, "peak": 400 * MIB}
    stand_in = {
        "empty_cache": lambda: state.update(reserved=70 * MIB),
        "reset_peak_memory_stats": lambda device: state.update(peak=state["reserved"]),
        "memory_reserved": lambda device: state["reserved"],
        "max_memory_reserved": lambda device: state["peak"],
        "memory_allocated": lambda device: 20 * MIB,
        "max_memory_allocated": lambda device: 25 * MIB,
    }
    for name, function in stand_in.items():
        monkeypatch.setattr(torch.cuda, name, function)
    watch = MemoryWatch(torch.device("cuda"))
    watch.start()
    state["peak"] = 90 * MIB
    assert watch.read() == Memory(70 * MIB, 90 * MIB)
