"""The inference thread on its own: no ROS in it."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from eomt_ext_ros.workers.inference_thread import InferenceThread

TIMEOUT_S = 30.0


class Bench:
    """Work that waits for permission to end."""

    def __init__(self):
        self.done, self.backoffs_s = [], {}
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.thread = InferenceThread(self.work, "bench")

    def work(self, batch):
        self.begun.release()
        assert self.may_end.acquire(timeout=TIMEOUT_S)
        self.done.append(batch)
        return self.backoffs_s

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
    assert bench.thread.stop(TIMEOUT_S)


def test_only_newest_of_a_burst_is_processed(bench):
    bench.thread.put("front", 0)
    bench.wait_until_begun()
    assert [bench.thread.put("front", item) for item in range(1, 6)] == [False, True, True, True, True]
    bench.allow(2)
    bench.wait_until_begun()
    assert bench.thread.stop(TIMEOUT_S)
    assert bench.done == [{"front": 0}, {"front": 5}]


def test_items_that_come_slowly_are_all_worked_on(bench):
    for item in range(3):
        assert not bench.thread.put("front", item)
        bench.wait_until_begun()
        bench.allow()
    assert bench.thread.stop(TIMEOUT_S)
    assert bench.done == [{"front": 0}, {"front": 1}, {"front": 2}]


def test_job_runs_before_waiting_batch(bench):
    bench.thread.put("front", 0)
    bench.wait_until_begun()
    bench.thread.put("front", 1)
    good = bench.thread.call(lambda: (list(bench.done), threading.current_thread().name))
    bad = bench.thread.call(lambda: {}["nothing"])
    bench.allow(2)
    assert good.result(TIMEOUT_S) == ([{"front": 0}], "bench")
    with pytest.raises(KeyError, match="nothing"):
        bad.result(TIMEOUT_S)
    bench.wait_until_begun()
    assert bench.thread.drain(TIMEOUT_S)
    assert bench.done == [{"front": 0}, {"front": 1}]


def test_stop_finishes_what_is_being_done_and_takes_nothing_further(bench):
    bench.thread.put("front", "present")
    bench.wait_until_begun()
    bench.thread.put("front", "waiting")
    job = bench.thread.call(print)
    assert not bench.thread.drain(timeout_s=0.05)
    assert not bench.thread.stop(timeout_s=0.05)
    late = bench.thread.call(print)
    bench.allow(2)
    assert bench.thread.stop(TIMEOUT_S)
    assert bench.done == [{"front": "present"}]
    for cancelled in (job, late):
        with pytest.raises(CancelledError):
            cancelled.result(TIMEOUT_S)


def test_what_waits_can_be_forgotten(bench):
    bench.thread.put("front", 0)
    bench.wait_until_begun()
    bench.thread.put("front", 1)
    assert bench.thread.clear() == ["front"]
    bench.allow(2)
    assert bench.thread.drain(TIMEOUT_S)
    assert bench.done == [{"front": 0}]


def test_back_off_of_a_camera_delays_no_other(bench):
    bench.backoffs_s = {"front": 0.2}
    bench.allow(3)
    bench.thread.put("front", 0)
    bench.wait_until_begun()
    assert bench.thread.drain(TIMEOUT_S)
    began_s, bench.backoffs_s = time.monotonic(), {}
    bench.thread.put("front", 1)
    bench.thread.put("left", 2)
    bench.wait_until_begun()
    bench.wait_until_begun()
    assert time.monotonic() - began_s > 0.1
    assert bench.thread.drain(TIMEOUT_S)
    assert bench.done == [{"front": 0}, {"left": 2}, {"front": 1}]


def test_a_back_off_that_is_ended_ends_at_once(bench):
    bench.backoffs_s = {"front": 3600.0}
    bench.allow(2)
    bench.thread.put("front", 0)
    bench.wait_until_begun()
    assert bench.thread.drain(TIMEOUT_S)
    bench.thread.put("front", 1)
    assert not bench.begun.acquire(timeout=0.05)
    bench.thread.end_backoffs()
    bench.wait_until_begun()


@pytest.mark.parametrize("period_s", [3600.0, 1e12, float("inf")])  # also longer than a thread can wait
def test_a_new_limit_counts_at_once(bench, period_s):
    bench.allow(2)
    bench.thread.limit(max_batch=0, period_s=period_s)
    bench.thread.put("front", 0)
    bench.wait_until_begun()
    bench.thread.put("front", 1)
    assert not bench.begun.acquire(timeout=0.05)
    bench.thread.limit(max_batch=0, period_s=0.0)
    bench.wait_until_begun()


def test_stop_ends_an_idle_thread():
    thread = InferenceThread(print, "idle thread")
    assert "idle thread" in {thread.name for thread in threading.enumerate()}
    assert thread.stop(TIMEOUT_S)
    assert not thread.is_alive
    assert "idle thread" not in {thread.name for thread in threading.enumerate()}


def test_exception_ends_only_its_batch(monkeypatch):
    printed, done = [], []
    monkeypatch.setattr(threading, "excepthook", printed.append)

    def work(batch):
        done.append(batch)
        return {"front": 0.0 / batch["front"]}

    thread = InferenceThread(work, "faulty")
    thread.put("front", 0)
    wait_for(lambda: printed)
    thread.put("front", 1)
    wait_for(lambda: len(done) == 2)
    assert thread.stop(TIMEOUT_S)
    assert done == [{"front": 0}, {"front": 1}]
    assert [(args.exc_type, args.thread.name) for args in printed] == [(ZeroDivisionError, "faulty")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dead_thread_is_not_waited_for():
    def work(batch):
        raise SystemExit

    thread = InferenceThread(work, "ended")
    thread.put("front", 0)
    wait_for(lambda: not thread.is_alive)
    assert thread.drain(0.0)
    assert thread.call(print).cancelled()
    assert thread.stop(0.0)


def wait_for(condition):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
