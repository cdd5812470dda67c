"""Tasks in a thread of their own: no ROS in it."""

import threading
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting

import pytest

from eomt_ext_ros.workers.picture_thread import PictureThread

TIMEOUT_S = 30.0
MOMENT_S = 0.2


@pytest.fixture
def pictures():
    pictures = PictureThread(2)
    yield pictures
    assert pictures.stop(TIMEOUT_S)
    assert not pictures.is_alive


@pytest.fixture
def gate(pictures):
    """Opens in the end at the latest."""
    gate = threading.Event()
    yield gate
    gate.set()


def in_a_thread(call, *args):
    future = Future()
    threading.Thread(target=lambda: future.set_result(call(*args)), daemon=True).start()
    return future


def test_tasks_are_done_in_order(pictures):
    done = []
    for number in range(20):
        assert pictures.put(lambda number=number: done.append(number))
    assert pictures.drain(TIMEOUT_S)
    assert done == list(range(20))


def test_the_task_after_the_most_waits_for_room(pictures, gate):
    done = []
    for _ in range(2):
        pictures.put(lambda: gate.wait(TIMEOUT_S))
    third = in_a_thread(pictures.put, lambda: done.append("third"))
    with pytest.raises(StillWaiting):
        third.result(MOMENT_S)
    assert not pictures.drain(MOMENT_S)
    gate.set()
    assert third.result(TIMEOUT_S)
    assert pictures.drain(TIMEOUT_S)
    assert done == ["third"]


def test_a_task_that_fails_is_told_of_and_the_next_is_done(pictures, monkeypatch):
    done, failures = [], []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    pictures.put(lambda: [][0])
    pictures.put(lambda: done.append("next"))
    assert pictures.drain(TIMEOUT_S)
    assert done == ["next"]
    assert [told.exc_type for told in failures] == [IndexError]


def test_what_there_is_to_do_is_done_before_the_end_and_nothing_after():
    pictures, gate, done = PictureThread(2), threading.Event(), []
    pictures.put(lambda: gate.wait(TIMEOUT_S))
    pictures.put(lambda: done.append("last"))
    held_up = in_a_thread(pictures.put, lambda: done.append("too late"))
    assert not pictures.stop(MOMENT_S)
    assert held_up.result(TIMEOUT_S) is False, "what waits for room does not wait for ever"
    gate.set()
    assert pictures.stop(TIMEOUT_S)
    assert not pictures.put(lambda: done.append("too late"))
    assert done == ["last"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_amid_its_work_is_not_waited_for():
    def end():
        raise SystemExit

    pictures, gate = PictureThread(2), threading.Event()
    pictures.put(lambda: gate.wait(TIMEOUT_S) and end())
    pictures.put(end)
    held_up = in_a_thread(pictures.put, end)
    gate.set()
    assert held_up.result(TIMEOUT_S) is False
    assert pictures.drain(TIMEOUT_S)
    assert pictures.stop(TIMEOUT_S)
    assert not pictures.put(end)


def test_a_task_that_was_done_is_let_go_of(pictures):
    class Image:
        pass

    image = Image()
    gone = weakref.ref(image)
    pictures.put(lambda image=image: None)
    del image
    assert pictures.drain(TIMEOUT_S)
    assert gone() is None


def test_nothing_to_do_is_nothing_to_wait_for(pictures):
    assert pictures.drain(0.0)
