"""Which stamps may be answered: results never run backwards."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_ros.pipeline.timeline import JUMP_BACK_S, Timeline

JUMP_NS = round(JUMP_BACK_S * 1e9)


@given(st.lists(st.integers(-(2**31), 2**31) | st.integers(1, 4 * JUMP_NS)))
def test_stamps_increase_but_for_a_clock_that_is_set_back(stamps):
    timeline = Timeline()
    taken = [stamp for stamp in stamps if timeline.take(stamp) and stamp != 0]
    assert all(later > earlier or later <= earlier - JUMP_NS for earlier, later in pairwise(taken))


def test_a_bag_that_starts_over_begins_anew():
    timeline = Timeline()
    assert [timeline.take(stamp) for stamp in (5 * JUMP_NS, 4 * JUMP_NS + 1, 4 * JUMP_NS, 4 * JUMP_NS + 1)] == [
        True, False, True, True,
    ]  # fmt: skip


def test_images_without_a_stamp_are_always_taken():
    timeline = Timeline()
    assert [timeline.take(stamp) for stamp in (0, 0, 7, 0, 7, 8)] == [True, True, True, True, False, True]
