"""How a camera's batch shrinks and grows: no ROS in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_ros.inference.memory_share import (
    FREE_PERIOD_S,
    REGROW_PERIOD_S,
    VAIN_FREE_PERIOD_S,
    MemoryShare,
)


def test_windows_are_doubled_each_minute_and_in_the_end_the_camera_goes_with_the_others():
    share, seen = MemoryShare(), []
    share.take_less(3, now_s=0.0)
    for minute in range(5):
        share.take_more(10, minute * REGROW_PERIOD_S - 0.001)
        seen.append((share.windows, share.is_alone))
        share.take_more(10, minute * REGROW_PERIOD_S)
    assert seen == [(3, True), (3, True), (6, True), (None, True), (None, False)]


def test_a_step_too_far_is_tried_ever_more_seldom_until_it_holds():
    share, now_s, waits_s = MemoryShare(), 0.0, []
    share.take_less(2, now_s)
    for _ in range(6):
        waits_s.append(share.more_at_s - now_s)
        now_s = share.more_at_s
        share.take_more(10, now_s)
        assert share.windows == 4
        share.take_less(2, now_s)
    assert waits_s == [REGROW_PERIOD_S * factor for factor in (1, 2, 4, 8, 16, 16)]


def test_going_with_the_others_again_is_such_a_step_too():
    share, now_s, waits_s = MemoryShare(), 0.0, []
    share.take_less(1, now_s)
    for _ in range(4):
        began_s = now_s
        while share.is_alone:
            now_s = share.more_at_s
            share.take_more(1, now_s)
        waits_s.append(now_s - began_s)
        share.take_less(1, now_s)
    assert waits_s == [2 * REGROW_PERIOD_S * factor for factor in (1, 2, 4, 8)]


def test_what_has_held_is_forgotten():
    share = MemoryShare(regrow_s=8 * REGROW_PERIOD_S)
    share.take_less(1, now_s=0.0)
    now_s = 0.0
    for _ in range(3):
        now_s = share.more_at_s
        share.take_more(1, now_s)
    share.take_less(1, now_s)
    assert share.more_at_s - now_s == REGROW_PERIOD_S


@pytest.mark.parametrize("was_short", [False, True])
def test_the_way_down_is_no_step_too_far(was_short):
    share = MemoryShare()
    for windows in (8, 4, 2, 1, 1, 1):
        share.take_less(windows, now_s=0.0)
        share.was_short = was_short
    assert share.regrow_s == REGROW_PERIOD_S


def test_one_step_too_far_counts_once():
    share = MemoryShare()
    share.take_less(4, now_s=0.0)
    share.take_more(10, share.more_at_s)
    for windows in (4, 2, 1):
        share.take_less(windows, now_s=100.0)
    assert share.regrow_s == 2 * REGROW_PERIOD_S


@given(st.integers(1, 300), st.integers(1, 300))
def test_it_always_comes_back(windows, most):
    share = MemoryShare()
    share.take_less(windows, now_s=0.0)
    for _ in range(11):
        share.take_more(most, min(share.more_at_s, 1e9))
    assert share == MemoryShare()


@pytest.mark.parametrize(("helped", "period_s"), [(True, FREE_PERIOD_S), (False, VAIN_FREE_PERIOD_S)])
def test_memory_is_freed_again_sooner_where_it_helped(helped, period_s):
    share = MemoryShare()
    assert share.free_at_s < 0
    share.was_freed_for(helped, now_s=7.0)
    assert share.free_at_s == 7.0 + period_s
