"""Which stamps are accepted: what is published never runs backwards."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_ros.pipeline.stamp_filter import JUMP_BACK_S, StampFilter

JUMP_NS = round(JUMP_BACK_S * 1e9)


@given(st.lists(st.integers(-(2**31), 2**31) | st.integers(1, 4 * JUMP_NS)))
def test_stamps_increase_unless_a_clock_is_set_back(stamps):
    accepted = StampFilter().accept
    taken = [stamp for stamp in stamps if accepted(stamp) and stamp != 0]
    assert all(later > earlier or later <= earlier - JUMP_NS for earlier, later in pairwise(taken))


def test_a_bag_that_starts_over_is_accepted():
    stamps = StampFilter()
    assert [stamps.accept(stamp) for stamp in (5 * JUMP_NS, 4 * JUMP_NS + 1, 4 * JUMP_NS, 4 * JUMP_NS + 1)] == [
        True, False, True, True,
    ]  # fmt: skip


def test_images_without_a_stamp_are_always_accepted():
    stamps = StampFilter()
    assert [stamps.accept(stamp) for stamp in (0, 0, 7, 0, 7, 8)] == [True, True, True, True, False, True]
