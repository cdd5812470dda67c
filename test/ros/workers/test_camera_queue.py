"""Whose turn it is: no thread and no ROS in it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_ros.workers.camera_queue import CameraQueue


def test_batch_takes_newest_item_of_each_waiting_camera():
    queue = CameraQueue()
    assert [queue.put("front", 1), queue.put("front", 2), queue.put("left", 3)] == [False, True, False]
    assert queue.take(now_s=0.0) == {"front": 2, "left": 3}
    assert queue.take(now_s=0.0) == {}
    assert queue.due_s() is None


@given(st.integers(1, 7), st.integers(0, 8), st.integers(1, 40))
def test_under_overload_every_camera_has_its_turn_equally_often(num_cameras, max_batch, rounds):
    queue, turns = CameraQueue(max_batch=max_batch), Counter()
    cameras = [f"camera{index}" for index in range(num_cameras)]
    for now_s in range(rounds):
        for camera in cameras:
            queue.put(camera, now_s)
        batch = queue.take(now_s)
        assert len(batch) == min(max_batch or num_cameras, num_cameras)
        assert set(batch.values()) == {now_s}
        turns.update(batch.keys())
    counts = [turns[camera] for camera in cameras]
    assert max(counts) - min(counts) <= 1


def test_a_camera_that_was_away_goes_first_and_once():
    queue = CameraQueue(max_batch=1)
    for now_s in range(5):
        queue.put("busy", now_s)
        queue.take(now_s)
    for camera in ("busy", "back"):
        queue.put(camera, 9)
    assert queue.take(5.0) == {"back": 9}
    queue.put("back", 10)
    assert queue.take(6.0) == {"busy": 9}


def test_a_camera_waits_for_its_period_and_holds_no_other():
    queue = CameraQueue(period_s=0.5)
    queue.put("front", 1)
    assert queue.take(10.0) == {"front": 1}
    queue.put("front", 2)
    assert queue.due_s() == 10.5
    queue.put("left", 3)
    assert queue.take(10.25) == {"left": 3}
    assert queue.take(10.25) == {}
    assert queue.take(10.5) == {"front": 2}


def test_back_off_keeps_the_period_and_delays_no_other():
    queue = CameraQueue(period_s=0.5)
    queue.back_off("front", until_s=11.0)
    for camera in ("front", "left"):
        queue.put(camera, 1)
    assert queue.take(10.0) == {"left": 1}
    assert (queue.due_s(), queue.take(10.9), queue.take(11.0)) == (11.0, {}, {"front": 1})
    queue.put("front", 2)
    assert queue.due_s() == 11.5


def test_a_rest_can_be_ended():
    queue = CameraQueue()
    queue.back_off("front", until_s=11.0)
    queue.end_backoffs()
    queue.put("front", 1)
    assert queue.take(10.0) == {"front": 1}


def test_clear_names_the_cameras_whose_items_are_gone():
    queue = CameraQueue()
    queue.put("front", 1)
    queue.put("left", 2)
    assert queue.clear() == ["front", "left"]
    assert queue.take(0.0) == {}


@pytest.mark.parametrize("period_s", [0.0, 0.1])
def test_what_is_due_can_be_taken(period_s):
    queue = CameraQueue(period_s=period_s)
    now_s = 0.0
    for item in range(20):
        queue.put("front", item)
        now_s = max(now_s, queue.due_s())
        assert queue.take(now_s) == {"front": item}
