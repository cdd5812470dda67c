"""The one thread that touches the model: batches of images, and now and then another job."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from eomt_ext_ros.workers.camera_queue import CameraQueue

Item = TypeVar("Item")
Started = TypeVar("Started")
Result = TypeVar("Result")


class InferenceThread(Generic[Item, Started]):
    """Begin and finish batches, in a thread of its own, of the newest items of the cameras that wait.

    A batch is finished before the next one begins, unless that may begin beside it and items wait in time. Batches are
    finished in the order in which they began, all of them before a job runs or the thread stops.

    The thread is a daemon, so that the process can end even if a call never does. If the thread ends before it is
    stopped, nothing further is taken, as after :meth:`stop`.

    Args:
        begin: called with a batch, items by camera.
        finish: called with what ``begin`` gave; gives for how many seconds which cameras back off. Both should report
            their failures themselves: an ``Exception`` ends only its batch, and is left to ``threading.excepthook``,
            which prints it.
        begin_beside_s: asked with how many are in flight: when another one may begin, on the steady clock; infinite if
            it may not. Until then newer items are waited for.
        name: of the thread, which begins at once.
    """

    def __init__(
        self,
        begin: Callable[[dict[str, Item]], Started],
        finish: Callable[[Started], Mapping[str, float]],
        begin_beside_s: Callable[[int], float],
        name: str = "inference",
    ) -> None:
        self._begin, self._finish, self._begin_beside_s = begin, finish, begin_beside_s
        self._queue: CameraQueue[Item] = CameraQueue()
        self._jobs: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._in_flight: deque[Started] = deque()
        self._begun_s: deque[float] = deque()  # of those in flight, and of the one that is begun or finished now
        self._busy = self._stopping = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    @property
    def batch_for_s(self) -> float:
        """For how long the oldest batch that is not finished has been processed, 0 if there is none."""
        begun_s = tuple(self._begun_s)
        return time.monotonic() - begun_s[0] if begun_s else 0.0

    def limit(self, max_batch: int, period_s: float) -> None:
        """Set the most cameras of a batch (0: all that wait) and the least time between two turns of a camera."""
        with self._change:
            self._queue.max_batch, self._queue.period_s = max_batch, period_s
            self._change.notify_all()

    def put(self, camera: str, item: Item) -> bool:
        """Queue an item; returns at once, true if it replaces an older one of its camera."""
        with self._change:
            replaced = self._queue.put(camera, item)
            self._change.notify_all()
        return replaced

    def call(self, job: Callable[[], Result]) -> Future[Result]:
        """Run a job in the thread before the next batch; cancelled if the thread ends first."""
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)

        with self._change:
            self._jobs.append((future, run))
            if self._stopping:
                future.cancel()
            self._change.notify_all()
        return future

    def end_backoffs(self) -> None:
        """Let no camera back off any longer, as when what it backed off for is gone."""
        with self._change:
            self._queue.end_backoffs()
            self._change.notify_all()

    def clear(self) -> list[str]:
        """Drop what waits; returns the cameras of which something did."""
        with self._change:
            return self._queue.clear()

    def drain(self, timeout_s: float) -> bool:
        """Wait for the batches in flight and the present job; false if that takes longer than the timeout."""
        with self._change:
            return self._change.wait_for(lambda: not self._busy, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Take nothing further, and wait as :meth:`drain` does; false if that takes longer than the timeout."""
        self._take_nothing_further()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _take_nothing_further(self) -> None:
        with self._change:
            self._stopping = True
            for future, _ in self._jobs:
                future.cancel()
            self._change.notify_all()

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                job, batch = work
                if job is not None:
                    job()
                elif batch:
                    self._begun_s.append(time.monotonic())
                    try:
                        self._in_flight.append(self._begin(batch))
                    except Exception as error:
                        self._begun_s.pop()
                        self._print(error)
                else:
                    self._finish_oldest()
                del work, job, batch  # or images and a model would be held until there is work again
        finally:  # what is no Exception ends the thread, and nothing in flight is finished any more
            self._in_flight.clear()
            self._begun_s.clear()
            with self._change:
                self._busy = False
                self._take_nothing_further()

    def _finish_oldest(self) -> None:
        try:
            self._back_off(self._finish(self._in_flight.popleft()))
        except Exception as error:
            self._print(error)
        finally:
            self._begun_s.popleft()

    def _print(self, error: Exception) -> None:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))

    def _back_off(self, backoffs_s: Mapping[str, float]) -> None:
        now_s = time.monotonic()
        with self._change:
            for camera, backoff_s in backoffs_s.items():
                self._queue.back_off(camera, now_s + backoff_s)

    def _next(self) -> tuple[Callable[[], None] | None, dict[str, Item]] | None:
        """Wait for a job or a batch; neither if the oldest batch must be finished first, None if the thread ends."""
        in_flight = len(self._in_flight)
        beside_s = self._begin_beside_s(in_flight) if in_flight else -math.inf
        with self._change:
            if not in_flight:
                self._busy = False
                self._change.notify_all()
            while True:
                if in_flight and (self._stopping or self._jobs or beside_s == math.inf):
                    return None, {}
                if self._stopping:
                    return None
                if self._jobs:
                    self._busy = True
                    return self._jobs.popleft()[1], {}
                now_s, due_s = time.monotonic(), self._queue.due_s()
                if due_s is not None and max(due_s, beside_s) <= now_s:
                    self._busy = True
                    return None, self._queue.take(now_s)
                if in_flight and beside_s <= now_s:
                    return None, {}
                until_s = beside_s if in_flight else due_s
                self._change.wait(None if until_s is None else min(until_s - now_s, threading.TIMEOUT_MAX))
