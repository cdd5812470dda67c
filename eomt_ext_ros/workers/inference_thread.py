"""The one thread that touches the model: batches of images, and now and then another job."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from eomt_ext_ros.workers.camera_queue import CameraQueue
from eomt_ext_ros.workers.worker_thread import WorkerThread

Item = TypeVar("Item")
Result = TypeVar("Result")


class InferenceThread(WorkerThread, Generic[Item]):
    """Call a function, in a thread of its own, with the newest items of the cameras that wait.

    Args:
        work: called with a batch, items by camera. Returns the cameras that are to rest, and for how many seconds. It
            should report its failures itself: an ``Exception`` ends only its batch, and is left to
            ``threading.excepthook``, which prints it.
        name: of the thread.
    """

    def __init__(self, work: Callable[[dict[str, Item]], Mapping[str, float]], name: str = "inference") -> None:
        self._answer = work
        self._queue: CameraQueue[Item] = CameraQueue()
        self._jobs: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._busy = False
        self._batch_since_s: float | None = None
        super().__init__(name)

    def limit(self, max_batch: int, period_s: float) -> None:
        """Set the most cameras of a batch (0: all that wait) and the least time between two turns of a camera."""
        with self._change:
            self._queue.max_batch, self._queue.period_s = max_batch, period_s
            self._change.notify_all()

    def put(self, camera: str, item: Item) -> bool:
        """Let an item wait for its turn; returns at once, true where it took the place of an older one."""
        with self._change:
            replaced = self._queue.put(camera, item)
            self._change.notify_all()
        return replaced

    def call(self, job: Callable[[], Result]) -> Future[Result]:
        """Run a job in the thread before the next batch; cancelled where the thread ends first."""
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

    @property
    def batch_for_s(self) -> float:
        """For how long the batch that is being worked on has been, 0 where none is."""
        since_s = self._batch_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def end_rests(self) -> None:
        """Let no camera rest any longer, as when what they rested for is gone."""
        with self._change:
            self._queue.end_rests()
            self._change.notify_all()

    def clear(self) -> list[str]:
        """Forget what waits; returns the cameras of which something did."""
        with self._change:
            return self._queue.clear()

    def _take_nothing_further(self) -> None:
        with self._change:
            for future, _ in self._jobs:
                future.cancel()
            super()._take_nothing_further()

    def _is_idle(self) -> bool:
        return not self._busy

    def _forget_work(self) -> None:
        self._busy = False

    def _work(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                job, batch = self._next()
                self._busy = True
            if job is not None:
                job()
            elif batch:
                self._work_on(batch)
            else:
                return

    def _work_on(self, batch: dict[str, Item]) -> None:
        self._batch_since_s = time.monotonic()
        try:
            rests_s = self._answer(batch)
            now_s = time.monotonic()
            with self._change:
                for camera, rest_s in rests_s.items():
                    self._queue.rest(camera, now_s + rest_s)
        except Exception as error:
            self._print(error)
        finally:
            self._batch_since_s = None

    def _next(self) -> tuple[Callable[[], None] | None, dict[str, Item]]:
        """Wait for a job or a batch; neither where the thread is to end."""
        while not self._stopping:
            if self._jobs:
                return self._jobs.popleft()[1], {}
            now_s = time.monotonic()
            due_s = self._queue.due_s()
            wait_s = None if due_s is None else due_s - now_s
            if wait_s is None or wait_s > 0:
                self._change.wait(None if wait_s is None else min(wait_s, threading.TIMEOUT_MAX))
            else:
                return None, self._queue.take(now_s)
        return None, {}
