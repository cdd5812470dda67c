"""Tasks in a thread of their own: no ROS in it."""

import threading
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting

import pytest

from eomt_ext_ros.workers.visualisation import VisualisationWorker

TIMEOUT_S = 30.0
MOMENT_S = 0.2


@pytest.fixture
def worker():
    worker = VisualisationWorker(2)
    yield worker
    assert worker.stop(TIMEOUT_S)


@pytest.fixture
def gate(worker):
    """Opens in the end at the latest."""
    gate = threading.Event()
    yield gate
    gate.set()


def in_a_thread(call, *args):
    future = Future()
    threading.Thread(target=lambda: future.set_result(call(*args)), daemon=True).start()
    return future


def test_tasks_are_done_in_order(worker):
    done = []
    for number in range(20):
        worker.submit(done.append, number)
    assert worker.drain(TIMEOUT_S)
    assert done == list(range(20))


def test_the_task_after_the_most_waits_for_a_slot(worker, gate):
    done = []
    for _ in range(2):
        worker.submit(gate.wait, TIMEOUT_S)
    third = in_a_thread(worker.submit, done.append, "third")
    with pytest.raises(StillWaiting):
        third.result(MOMENT_S)
    assert not worker.drain(MOMENT_S)
    gate.set()
    third.result(TIMEOUT_S)
    assert worker.drain(TIMEOUT_S)
    assert done == ["third"]


@pytest.mark.parametrize("error", [IndexError, SystemExit])
def test_failing_task_is_printed_and_next_runs(worker, monkeypatch, error):
    def fail():
        raise error

    done, printed = [], []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    worker.submit(fail)
    worker.submit(done.append, "next")
    assert worker.drain(TIMEOUT_S)
    assert done == ["next"]
    assert [args.exc_type for args in printed] == [error]


def test_close_finishes_waiting_tasks_and_refuses_new_ones():
    worker, gate, done = VisualisationWorker(2), threading.Event(), []
    worker.submit(gate.wait, TIMEOUT_S)
    worker.submit(done.append, "last")
    assert not worker.stop(MOMENT_S)
    gate.set()
    assert worker.stop(TIMEOUT_S)
    with pytest.raises(RuntimeError):
        worker.submit(done.append, "too late")
    assert done == ["last"]


def test_a_task_that_was_done_is_let_go_of(worker):
    class Image:
        pass

    image = Image()
    gone = weakref.ref(image)
    worker.submit(lambda image: None, image)
    del image
    assert worker.drain(TIMEOUT_S)
    worker.submit(int)  # the pool lets go of a task when it has taken the next
    assert worker.drain(TIMEOUT_S)
    assert gone() is None


def test_nothing_to_do_is_nothing_to_wait_for(worker):
    assert worker.drain(0.0)
