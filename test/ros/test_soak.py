"""What the soak takes for a leak; the soak itself is a benchmark."""

import importlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

COUNTS = {"received": 400, "published": 390, "malformed images sent": 10, "rejected/size": 9}


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks" / "node")
    return importlib.import_module("soak")


def samples(soak, resident_mib):
    return [soak.Sample(18.0 * number, mib, 23, 19) for number, mib in enumerate(resident_mib)]


def is_flat(growth):
    return growth.slope <= growth.margin


def test_slow_leak_is_found_in_noise_and_allocator_steps(soak):
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, 80) + np.where(np.arange(80) > 30, 0.3, 0.0)
    leak = 0.1 * 18 / 60 * np.arange(80)  # 0.1 MiB a minute
    growth = soak.growth(samples(soak, 900 + noise + leak))
    assert not is_flat(growth)
    assert growth.slope == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("steps_mib", [{}, {30: 4.0}, {10: 0.5, 50: 0.6}, {40: -300.0}])
def test_steps_are_no_leak(soak, steps_mib):
    resident_mib = np.full(80, 900.0)
    for cycle, mib in steps_mib.items():
        resident_mib[cycle:] += mib
    assert is_flat(soak.growth(samples(soak, resident_mib)))


def test_memory_rising_in_half_the_parts_is_a_leak(soak):
    resident_mib = 900 + np.repeat([0, 1, 1, 2, 2, 3, 3, 4, 4, 5], 8)
    growth = soak.growth(samples(soak, resident_mib))
    assert not is_flat(growth)


@pytest.mark.parametrize(
    ("last", "verdict"), [({}, "passed"), ({"threads": 24}, "**failed**"), ({"resident_mib": 1200.0}, "passed")]
)
def test_the_verdict_counts_threads_and_lets_one_sample_stray(soak, last, verdict):
    taken = samples(soak, np.full(100, 900.0))
    taken[-1] = taken[-1]._replace(**last)
    table, passed = soak.report(taken, COUNTS, "make soak")
    assert f"| verdict | {verdict} |" in table
    assert passed == (verdict == "passed")


def test_failed_inference_fails_it(soak):
    assert not soak.report(samples(soak, np.full(100, 900.0)), COUNTS | {"failed/inference": 1}, "make soak")[1]


def test_growth_beyond_a_hundredth_fails_however_unsteady(soak):
    resident_mib = np.full(100, 900.0)
    resident_mib[60:] += 50.0
    assert not soak.report(samples(soak, resident_mib), COUNTS, "make soak")[1]
