"""Flicker of hand-made frames; needs no ROS."""

import numpy as np

from eomt_ext_ros.demo.flicker import flicker


def frame(index, steady=0.9, weak=0.0):
    """An obstacle that stays, and one that comes and goes; above 0.3 they are in the mask."""
    probability = np.full((40, 60), 0.1, np.float32)
    probability[10:20, 10:20], probability[25:30, 40:50] = steady, weak
    return index / 15, probability, probability > 0.3


def test_what_comes_and_goes_is_counted_and_none_of_it_is_confirmed():
    frames = [frame(index, weak=0.4 * (index % 2)) for index in range(10)]
    assert flicker(frames) == {"steps": 9, "changes": 9, "changes_confirmed": 1}


def test_a_gap_in_what_is_confirmed_is_filled():
    frames = [frame(index, steady=0.9 * (index != 5), weak=0.31) for index in range(10)]
    assert flicker(frames) == {"steps": 9, "changes": 2, "changes_confirmed": 1}


def test_without_obstacles_or_frames_nothing_changes():
    assert flicker([frame(index, steady=0.0) for index in range(3)])["changes"] == 0
    assert flicker([]) == {"steps": 0, "changes": 0, "changes_confirmed": 0}
