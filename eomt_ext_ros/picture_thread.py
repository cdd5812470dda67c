"""A thread that draws pictures for people while the next images are inferred."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class PictureThread:
    """Does one task after the other in a thread of its own, in the order in which they came.

    The thread is a daemon: where it does not end, the process can. Where it ends before it is told to, nothing further
    is done, as after :meth:`stop`.

    Args:
        most_unfinished: tasks, at least 1; they hold images, which would fill the memory where drawing takes longer
            than inference.
        name: of the thread.
    """

    def __init__(self, most_unfinished: int, name: str = "pictures") -> None:
        self._most_unfinished = most_unfinished
        self._change = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()  # the first is being done
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    def put(self, task: Callable[[], None]) -> bool:
        """Let a task be done; waits first where the most are unfinished. False where nothing further is done.

        A task should report its failures itself: an ``Exception`` is left to ``threading.excepthook``, which prints it.
        """
        with self._change:
            self._change.wait_for(lambda: self._stopping or len(self._tasks) < self._most_unfinished)
            if not self._stopping:
                self._tasks.append(task)
                self._change.notify_all()
            return not self._stopping

    def drain(self, timeout_s: float) -> bool:
        """Wait until every task is done; false where that takes longer than the timeout."""
        with self._change:
            return self._change.wait_for(lambda: not self._tasks, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Take no further task and wait for what there is; false where that takes longer than the timeout."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._wait_for_task():
                self._do_first()
                with self._change:
                    self._tasks.popleft()
                    self._change.notify_all()
        finally:  # an exception that is none to go on after ends the thread amid its work
            with self._change:
                self._stopping = True
                self._tasks.clear()
                self._change.notify_all()

    def _wait_for_task(self) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._stopping or self._tasks)
            return bool(self._tasks)

    def _do_first(self) -> None:
        try:
            self._tasks[0]()
        except Exception as error:
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))
