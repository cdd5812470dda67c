"""A thread that draws pictures for people while the next images are inferred."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eomt_ext_ros.workers.worker_thread import WorkerThread


class PictureThread(WorkerThread):
    """Does one task after the other in a thread of its own, in the order in which they came, also those before its end.

    Args:
        most_unfinished: tasks, at least 1; they hold images, which would fill the memory where drawing takes longer
            than inference.
        name: of the thread.
    """

    def __init__(self, most_unfinished: int, name: str = "pictures") -> None:
        self._most_unfinished = most_unfinished
        self._tasks: deque[Callable[[], None]] = deque()  # the first is being done
        super().__init__(name)

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

    def _work(self) -> None:
        while self._wait_for_task():
            self._do_first()
            with self._change:
                self._tasks.popleft()
                self._change.notify_all()

    def _is_idle(self) -> bool:
        return not self._tasks

    def _forget_work(self) -> None:
        self._tasks.clear()

    def _wait_for_task(self) -> bool:
        with self._change:
            self._change.wait_for(lambda: self._stopping or self._tasks)
            return bool(self._tasks)

    def _do_first(self) -> None:
        try:
            self._tasks[0]()
        except Exception as error:
            self._print(error)
