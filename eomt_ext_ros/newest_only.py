"""A thread that always works on the newest item and lets the rest go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestOnlyWorker(Generic[Item]):
    """Call a function, in a thread of its own, with the newest item put in; older ones that had no turn are dropped.

    Args:
        work: called with one item at a time. It must not raise: whoever has something to report reports it there.
        name: of the thread.
    """

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        self._work = work
        self._wake = threading.Condition()
        self._item: Item | None = None
        self._stopping = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Items that a newer one took the place of."""
        return self._dropped

    def put(self, item: Item) -> None:
        """Make this the item that is worked on next; returns at once."""
        with self._wake:
            if self._item is not None:
                self._dropped += 1
            self._item = item
            self._wake.notify()

    def stop(self, timeout_s: float) -> bool:
        """Take no further item and wait for the present one; false where it takes longer than the timeout."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._item is not None)
                if self._stopping:
                    return
                item, self._item = self._item, None
            assert item is not None
            self._work(item)
