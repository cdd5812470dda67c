"""A thread that lives as long as the work that it is there for."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class WorkerThread(ABC):
    """A thread of its own, which works until it is told to end.

    It is a daemon: where it does not end, the process can. Where it ends before it is told to, nothing further is
    taken, as after :meth:`stop`.

    Args:
        name: of the thread, which begins at once: what it works with has to be there before.
    """

    def __init__(self, name: str) -> None:
        self._change = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is being done; false where that takes longer than the timeout."""
        with self._change:
            return self._change.wait_for(self._is_idle, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Take nothing further and wait for what is being done; false where that takes longer than the timeout."""
        self._take_nothing_further()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @abstractmethod
    def _work(self) -> None:
        """Work until ``_stopping`` is set, in the thread."""

    @abstractmethod
    def _is_idle(self) -> bool:
        """Whether nothing is being done."""

    @abstractmethod
    def _forget_work(self) -> None:
        """Let go of what the thread was amid when it ended."""

    def _take_nothing_further(self) -> None:
        with self._change:
            self._stopping = True
            self._change.notify_all()

    def _run(self) -> None:
        try:
            self._work()
        finally:  # an exception that is none to go on after ends the thread amid its work
            with self._change:
                self._forget_work()
                self._take_nothing_further()

    def _print(self, error: Exception) -> None:
        """Tell of what ended one piece of work, and not the thread."""
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self._thread)))
