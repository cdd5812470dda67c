"""The inference thread on its own: no ROS in it."""

import math
import threading
import time
from concurrent.futures import CancelledError

import pytest

from eomt_ext_ros.workers.inference_thread import InferenceThread

TIMEOUT_S = 30.0


def in_turn(work, name):
    """A thread with one batch at a time in flight."""
    return InferenceThread(lambda batch: batch, work, lambda in_flight: math.inf, name)


class Bench:
    """Work that waits for permission to end."""

    def __init__(self):
        self.done, self.backoffs_s = [], {}
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.thread = in_turn(self.work, "bench")

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


class Overlapping:
    """Batches of which two may be in flight, each finished when that is allowed."""

    def __init__(self):
        self.log, self.beside_s, self.may_begin, self.may_end = [], 0.0, threading.Semaphore(0), threading.Semaphore(0)
        self.thread = InferenceThread(self.begin, self.finish, self.begin_beside_s, "overlapping")

    def begin_beside_s(self, in_flight):
        return self.beside_s if in_flight < 2 else math.inf

    def begin(self, batch):
        self.log.append(f"begin {batch['front']}")
        assert self.may_begin.acquire(timeout=TIMEOUT_S)
        return batch["front"]

    def finish(self, number):
        self.log.append(f"finish {number}")
        assert self.may_end.acquire(timeout=TIMEOUT_S)
        return {}

    def wait_for(self, *log):
        wait_for(lambda: self.log[-len(log) :] == list(log))

    def allow(self, begin=0, finish=0):
        for semaphore, count in ((self.may_begin, begin), (self.may_end, finish)):
            for _ in range(count):
                semaphore.release()


@pytest.fixture
def two():
    """Batch 0 has begun, and image 1 waits to begin beside it."""
    two = Overlapping()
    two.thread.put("front", 0)
    two.wait_for("begin 0")
    two.thread.put("front", 1)
    yield two
    two.allow(100, 100)
    assert two.thread.stop(TIMEOUT_S)


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


def test_a_waiting_image_begins_before_the_last_one_is_finished(two):
    two.allow(begin=2)
    two.wait_for("begin 0", "begin 1", "finish 0")
    assert [two.thread.put("front", number) for number in (2, 3, 4)] == [False, True, True], "two are in flight"
    two.allow(begin=1, finish=1)
    two.wait_for("finish 0", "begin 4", "finish 1")
    two.allow(finish=2)
    assert two.thread.drain(TIMEOUT_S)
    assert two.log == ["begin 0", "begin 1", "finish 0", "begin 4", "finish 1", "finish 4"]
    assert two.thread.batch_for_s == 0


def test_newer_items_are_waited_for_until_a_batch_may_begin_beside(two):
    two.beside_s = time.monotonic() + 0.5
    two.allow(begin=2)
    time.sleep(0.1)
    two.thread.put("front", 2)
    two.wait_for("begin 0", "begin 2", "finish 0")
    assert time.monotonic() >= two.beside_s


def test_nothing_is_waited_for_that_has_not_come(two):
    assert two.thread.clear() == ["front"]
    two.allow(begin=1, finish=1)
    assert two.thread.drain(TIMEOUT_S)
    assert two.log == ["begin 0", "finish 0"]


def test_one_in_flight_can_be_asked_for_at_any_time(two):
    two.beside_s = math.inf
    two.allow(begin=2, finish=2)
    two.wait_for("begin 0", "finish 0", "begin 1", "finish 1")


def test_what_is_in_flight_is_finished_before_a_job(two):
    two.allow(begin=2)
    two.wait_for("begin 1", "finish 0")
    two.thread.put("front", 2)
    job = two.thread.call(lambda: list(two.log))
    two.allow(begin=1, finish=2)
    assert job.result(TIMEOUT_S) == ["begin 0", "begin 1", "finish 0", "finish 1"]


def test_stop_finishes_both_that_are_in_flight(two):
    two.allow(begin=2)
    two.wait_for("begin 1", "finish 0")
    two.thread.put("front", 2)
    assert not two.thread.drain(0.05)
    assert not two.thread.stop(0.05)
    two.allow(finish=2)
    assert two.thread.stop(TIMEOUT_S)
    assert two.log == ["begin 0", "begin 1", "finish 0", "finish 1"]


def test_the_oldest_batch_is_the_one_that_takes_long(two):
    two.allow(begin=2)
    two.wait_for("begin 1", "finish 0")
    wait_for(lambda: two.thread.batch_for_s > 0.1)
    two.allow(finish=1)
    two.wait_for("finish 0", "finish 1")
    assert two.thread.batch_for_s > 0.05, "also of the second, since it began"


def test_stop_ends_an_idle_thread():
    thread = in_turn(print, "idle thread")
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

    thread = in_turn(work, "faulty")
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

    thread = in_turn(work, "ended")
    thread.put("front", 0)
    wait_for(lambda: not thread.is_alive)
    assert thread.drain(0.0)
    assert thread.call(print).cancelled()
    assert thread.stop(0.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("others", [0, 1])
def test_dead_thread_processes_no_batch(others):
    def begin(batch):
        if batch["front"] == others:
            raise SystemExit
        thread.put("front", batch["front"] + 1)

    thread = InferenceThread(begin, lambda _: {}, lambda in_flight: 0.0, "ended")
    thread.put("front", 0)
    wait_for(lambda: not thread.is_alive)
    assert thread.batch_for_s == 0


def wait_for(condition):
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
