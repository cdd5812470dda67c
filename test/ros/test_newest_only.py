"""The worker on its own: no ROS in it."""

import threading

import pytest

from eomt_ext_ros.newest_only import NewestOnlyWorker

TIMEOUT_S = 30.0


class Bench:
    """Work that waits for permission to end."""

    def __init__(self):
        self.done = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.worker = NewestOnlyWorker(self.work, "bench")

    def work(self, item):
        self.begun.release()
        assert self.may_end.acquire(timeout=TIMEOUT_S)
        self.done.append(item)

    def wait_until_begun(self):
        assert self.begun.acquire(timeout=TIMEOUT_S)

    def allow(self, count=1):
        for _ in range(count):
            self.may_end.release()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.allow(100)
    assert bench.worker.stop(TIMEOUT_S)


def test_the_newest_of_a_burst_is_worked_on_and_the_rest_is_dropped(bench):
    bench.worker.put(0)
    bench.wait_until_begun()
    for item in range(1, 6):
        bench.worker.put(item)
    bench.allow(2)
    bench.wait_until_begun()
    assert bench.worker.stop(TIMEOUT_S)
    assert bench.done == [0, 5]
    assert bench.worker.dropped == 4


def test_items_that_come_slowly_are_all_worked_on(bench):
    for item in range(3):
        bench.worker.put(item)
        bench.wait_until_begun()
        bench.allow()
    assert bench.worker.stop(TIMEOUT_S)
    assert bench.done == [0, 1, 2]
    assert bench.worker.dropped == 0


def test_stop_finishes_the_present_item_and_takes_no_other(bench):
    bench.worker.put("present")
    bench.wait_until_begun()
    bench.worker.put("waiting")
    assert not bench.worker.stop(timeout_s=0.05)
    bench.allow(2)
    assert bench.worker.stop(TIMEOUT_S)
    bench.worker.put("late")
    assert bench.worker.stop(TIMEOUT_S)
    assert bench.done == ["present"]


def test_stop_ends_an_idle_thread():
    worker = NewestOnlyWorker(print, "idle worker")
    assert "idle worker" in {thread.name for thread in threading.enumerate()}
    assert worker.stop(TIMEOUT_S)
    assert "idle worker" not in {thread.name for thread in threading.enumerate()}
