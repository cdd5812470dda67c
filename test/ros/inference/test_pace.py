"""When the next batch begins, with a device and a host that take what they take on a clock of their own."""

import math
from collections import deque

import pytest

from eomt_ext_ros.inference.pace import Pace

TURNS = 100


def run(device_s, begin_s, finish_s, late_s=0.0, most=2, windows=lambda turn: 1):
    """Batches under overload: the age of the images when they come, and how long the device has nothing to do."""
    pace, now_s, free_s, flights = Pace(), 0.0, 0.0, deque()
    ages_s, idle_s = [], []
    for turn in range(TURNS):
        compute_s = device_s(turn)
        if flights:
            now_s = max(now_s, pace.begin_at_s(flights[-1][1], flights[-1][3])) + late_s
        taken_s, now_s = now_s, now_s + begin_s
        pace.submitted(taken_s, now_s)
        idle_s.append(max(0.0, now_s - free_s))
        free_s = max(free_s, now_s) + compute_s
        flights.append((taken_s, now_s, free_s, windows(turn)))
        if len(flights) == most:
            taken_s, submitted_s, computed_s, count = flights.popleft()
            now_s = max(now_s, computed_s)
            pace.collected(submitted_s, now_s, count)
            ages_s.append(now_s - taken_s)
            now_s += finish_s
    return ages_s[10:], idle_s[10:]


@pytest.mark.parametrize(("begin_s", "finish_s"), [(0.01, 0.02), (0.2, 0.3), (0.0, 0.0)])
def test_with_a_slow_device_images_are_as_new_as_one_at_a_time_and_it_is_never_idle(begin_s, finish_s):
    ages_s, idle_s = run(lambda turn: 1.0, begin_s, finish_s)
    assert max(ages_s) <= begin_s + 1.0 + 0.051
    assert max(idle_s) == 0


def test_with_a_slow_host_nothing_is_waited_for():
    _, idle_s = run(lambda turn: 1.0, 1.0, 2.0)
    assert sum(idle_s) / len(idle_s) == pytest.approx(2.0), (
        "three seconds of the host for each batch, one of the device"
    )


@pytest.mark.parametrize("change", [4.0, 0.25])
def test_another_speed_of_the_device_is_learnt(change):
    ages_s, idle_s = run(lambda turn: 1.0 if turn < 30 else change, 0.01, 0.01)
    assert max(ages_s[-15:]) <= 0.01 + 1.06 * change
    assert max(idle_s[-15:]) == pytest.approx(0, abs=1e-9)


def test_a_host_that_is_held_up_does_not_teach_the_device_to_be_slow():
    _, idle_s = run(lambda turn: 1.0, 0.01, 0.01, late_s=0.04)
    assert max(idle_s) == 0


def test_a_small_batch_is_not_waited_for_as_long_as_large_ones_took():
    def windows(turn):
        return 1 if turn == 50 else 12

    ages_s, idle_s = run(windows, 0.01, 0.01, windows=windows)
    assert min(ages_s) <= 0.01 + 0.05 * 12 + 1.01, "begun before the end of a large one, and then computed at once"
    assert max(idle_s) == 0


@pytest.mark.parametrize("first", [1, 4])
def test_a_device_that_takes_as_long_for_one_as_for_four_is_known_for_both(first):
    ages_s, idle_s = run(lambda turn: 1.0, 0.01, 0.01, windows=lambda turn: 5 - first if turn % 3 else first)
    assert max(ages_s) <= 0.01 + 1.0 + 0.051
    assert max(idle_s) == 0


def test_nothing_is_known_at_first():
    assert Pace().begin_at_s(5.0, 1) == -math.inf
