"""The one thread that touches the model: batches of images, and now and then another job."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from eomt_ext_ros.workers.camera_queue import CameraQueue

Item = TypeVar("Item")
Result = TypeVar("Result")


class InferenceThread(Generic[Item]):
    """Call a function, in a thread of its own, with the newest items of the cameras that wait.

    The thread is a daemon, so that the process can end even if a call never does. If the thread ends before it is
    stopped, nothing further is taken, as after :meth:`stop`.

    Args:
        process: called with a batch, items by camera; gives for how many seconds which cameras back off. It should
            report its failures itself: an ``Exception`` ends only its batch, and is left to ``threading.excepthook``,
            which prints it.
        name: of the thread, which begins at once.
    """

    def __init__(self, process: Callable[[dict[str, Item]], Mapping[str, float]], name: str = "inference") -> None:
        self._process = process
        self._queue: CameraQueue[Item] = CameraQueue()
        self._jobs: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._busy = self._stopping = False
        self._batch_since_s: float | None = None
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    @property
    def batch_for_s(self) -> float:
        """For how long the present batch has been processed, 0 if there is none."""
        since_s = self._batch_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

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
        """Wait for the present batch or job; false if that takes longer than the timeout."""
        with self._change:
            return self._change.wait_for(lambda: not self._busy, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Take nothing further, and wait for the present batch or job; false if it takes longer than the timeout."""
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
                else:
                    self._batch_since_s = time.monotonic()
                    try:
                        self._back_off(self._process(batch))
                    except Exception as error:
                        self._print(error)
                    finally:
                        self._batch_since_s = None
                del work, job, batch  # or images and a model would be held until there is work again
        finally:  # what is no Exception ends the thread
            with self._change:
                self._busy = False
                self._take_nothing_further()

    def _print(self, error: Exception) -> None:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))

    def _back_off(self, backoffs_s: Mapping[str, float]) -> None:
        now_s = time.monotonic()
        with self._change:
            for camera, backoff_s in backoffs_s.items():
                self._queue.back_off(camera, now_s + backoff_s)

    def _next(self) -> tuple[Callable[[], None] | None, dict[str, Item]] | None:
        """Wait for a job or a batch; None if the thread is to end."""
        with self._change:
            self._busy = False
            self._change.notify_all()
            while not self._stopping:
                now_s = time.monotonic()
                due_s = self._queue.due_s()
                wait_s = None if due_s is None else due_s - now_s
                if self._jobs:
                    self._busy = True
                    return self._jobs.popleft()[1], {}
                if wait_s is not None and wait_s <= 0:
                    self._busy = True
                    return None, self._queue.take(now_s)
                self._change.wait(None if wait_s is None else min(wait_s, threading.TIMEOUT_MAX))
        return None
