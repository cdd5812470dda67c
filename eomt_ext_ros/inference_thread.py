"""The one thread that touches the model: batches of images, and now and then another job."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from eomt_ext_ros.camera_queue import CameraQueue

Item = TypeVar("Item")
Result = TypeVar("Result")


class InferenceThread(Generic[Item]):
    """Call a function, in a thread of its own, with the newest items of the cameras that wait.

    Args:
        work: called with a batch, items by camera. Returns the seconds for which no batch is taken, at least 0. It
            should report its failures itself: an ``Exception`` ends only its batch, and is left to
            ``threading.excepthook``, which prints it.
        name: of the thread.

    The thread is a daemon: where it does not end, the process can. Where it ends before it is told to, nothing further
    is taken, as after :meth:`stop`.
    """

    def __init__(self, work: Callable[[dict[str, Item]], float], name: str = "inference") -> None:
        self._work = work
        self._wake = threading.Condition()
        self._queue: CameraQueue[Item] = CameraQueue()
        self._jobs: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._busy = False
        self._rest_until_s = float("-inf")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    def limit(self, max_batch: int, period_s: float) -> None:
        """Set the most cameras of a batch (0: all that wait) and the least time between two turns of a camera."""
        with self._wake:
            self._queue.max_batch, self._queue.period_s = max_batch, period_s
            self._wake.notify_all()

    def put(self, camera: str, item: Item) -> bool:
        """Let an item wait for its turn; returns at once, true where it took the place of an older one."""
        with self._wake:
            replaced = self._queue.put(camera, item)
            self._wake.notify_all()
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

        with self._wake:
            self._jobs.append((future, run))
            if self._stopping:
                future.cancel()
            self._wake.notify_all()
        return future

    def clear(self) -> list[str]:
        """Forget what waits; returns the cameras of which something did."""
        with self._wake:
            return self._queue.clear()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is being done; false where that takes longer than the timeout."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._busy, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Take nothing further and wait for what is being done; false where that takes longer than the timeout."""
        self._take_nothing_further()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _take_nothing_further(self) -> None:
        with self._wake:
            self._stopping = True
            for future, _ in self._jobs:
                future.cancel()
            self._wake.notify_all()

    def _run(self) -> None:
        try:
            self._take_turns()
        finally:  # an exception that is none to go on after ends the thread amid its work
            self._busy = False
            self._take_nothing_further()

    def _take_turns(self) -> None:
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                job, batch = self._next()
                self._busy = True
            if job is not None:
                job()
            elif batch:
                rest_s = self._work_on(batch)
                self._rest_until_s = time.monotonic() + rest_s if rest_s else float("-inf")
            else:
                return

    def _work_on(self, batch: dict[str, Item]) -> float:
        try:
            return self._work(batch)
        except Exception as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))
            return 0.0

    def _next(self) -> tuple[Callable[[], None] | None, dict[str, Item]]:
        """Wait for a job or a batch; neither where the thread is to end."""
        while not self._stopping:
            if self._jobs:
                return self._jobs.popleft()[1], {}
            now_s = time.monotonic()
            due_s = self._queue.due_s()
            wait_s = None if due_s is None else max(due_s, self._rest_until_s) - now_s
            if wait_s is None or wait_s > 0:
                self._wake.wait(wait_s)
            else:
                return None, self._queue.take(now_s)
        return None, {}
