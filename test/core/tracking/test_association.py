import numpy as np
import pytest

from eomt_ext_core.tracking.association import pairs, similarity


def test_overlap_less_distance_by_hand() -> None:
    first = np.array([[10.0, 10.0, 4.0, 4.0]])
    second = np.array([[10.0, 10.0, 4.0, 4.0], [12.0, 10.0, 4.0, 4.0], [16.0, 10.0, 4.0, 4.0]])
    expected = [1, 8 / 24 - 4 / (36 + 16), -36 / (100 + 16)]
    np.testing.assert_allclose(similarity(first, second), [expected])
    np.testing.assert_allclose(similarity(second, first)[:, 0], expected)


def test_the_most_similar_are_paired_first() -> None:
    expected = np.array([[0.0, 0.0, 10.0, 10.0], [8.0, 0.0, 10.0, 10.0]])
    seen = np.array([[7.0, 0.0, 10.0, 10.0], [500.0, 0.0, 10.0, 10.0], [17.0, 0.0, 10.0, 10.0]])
    assert list(pairs(expected, seen)) == [(1, 0)], "7 is nearer to 8 than to 0, and 17 is too far from 0"


@pytest.mark.parametrize("size", [1.0, 40.0])
def test_a_box_may_jump_a_little_more_than_its_size_and_no_further(size: float) -> None:
    expected, near, far = (np.array([[100 + sides * size, 100, size, size]]) for sides in (0, 1.15, 1.3))
    assert list(pairs(expected, near)) == [(0, 0)]
    assert list(pairs(expected, far)) == []


def test_none_is_paired_with_none() -> None:
    none, one = np.empty((0, 4)), np.array([[1.0, 1.0, 2.0, 2.0]])
    assert list(pairs(none, one)) == list(pairs(one, none)) == list(pairs(none, none)) == []
