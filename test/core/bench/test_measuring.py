from pathlib import Path

import numpy as np
import torch

from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.memory import MemoryWatch

CPU = torch.device("cpu")
MIB = 2**20


def test_parts_of_a_stage_are_added_up_and_skips_left_out() -> None:
    clock = StageClock(CPU)
    clock._marks = [("", 1.0), ("network", 3.0), ("scoring", 3.5), ("network", 4.5), ("", 9.0), ("outputs", 9.25)]
    assert clock.durations_s() == {"network": 3.0, "scoring": 0.5, "outputs": 0.25}


def test_the_peak_is_what_was_held_at_most_and_starts_anew() -> None:
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
