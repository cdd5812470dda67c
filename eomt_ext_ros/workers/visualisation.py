"""The worker that draws visualisations while the next images are inferred."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class VisualisationWorker:
    """Run tasks in a thread of their own, in the order in which they came.

    Args:
        most_unfinished: tasks, at least 1; they hold images, which would fill the memory if drawing took longer than
            inference.
    """

    def __init__(self, most_unfinished: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="visualisation")
        self._slots = threading.BoundedSemaphore(most_unfinished)
        self._unfinished: set[Future[None]] = set()

    def submit(self, task: Callable[..., None], *args: Any) -> None:
        """Queue a task; waits while the most are unfinished.

        A task should report its failures itself: what it raises is left to ``threading.excepthook``, which prints it.

        Raises:
            RuntimeError: if the worker was stopped.
        """
        self._slots.acquire()
        try:
            future = self._pool.submit(task, *args)
        except RuntimeError:
            self._slots.release()
            raise
        self._unfinished.add(future)
        future.add_done_callback(self._finish)

    def drain(self, timeout_s: float) -> bool:
        """Wait until no task is unfinished; false if that takes longer than the timeout."""
        return not wait(self._unfinished.copy(), timeout_s).not_done

    def stop(self, timeout_s: float) -> bool:
        """Take no further task, and wait for those that there are; false if that takes longer than the timeout."""
        self._pool.shutdown(wait=False)
        return self.drain(timeout_s)

    def _finish(self, future: Future[None]) -> None:
        self._unfinished.discard(future)
        self._slots.release()
        if (error := future.exception()) is not None:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
