"""The images that wait for their turn: the newest of each camera, and no camera passed over."""

from __future__ import annotations

import math
from collections import Counter
from typing import Generic, TypeVar

Item = TypeVar("Item")


class CameraQueue(Generic[Item]):
    """Holds the newest item of each camera, and gives those whose turn it is. Not thread-safe.

    If more cameras wait than fit in a batch, those go first whose last turn is longest ago: under overload every camera
    has its turn equally often. A camera that sends nothing is not waited for, and one that backs off delays no other.

    Args:
        max_batch: most cameras in a batch, 0 for all that wait.
        period_s: least time between two turns of a camera.

    >>> queue = CameraQueue(max_batch=1)
    >>> queue.put("front", "old"), queue.put("front", "new"), queue.put("rear", "only")
    (False, True, False)
    >>> queue.take(now_s=0.0), queue.take(now_s=0.1), queue.take(now_s=0.2)
    ({'front': 'new'}, {'rear': 'only'}, {})
    """

    def __init__(self, max_batch: int = 0, period_s: float = 0.0) -> None:
        self.max_batch, self.period_s = max_batch, period_s
        self._waiting: dict[str, Item] = {}
        self._last_turn_s: dict[str, float] = {}
        self._back_off_until_s: dict[str, float] = {}
        self._last_turn: Counter[str] = Counter()  # numbered, as turns on the clock may coincide
        self._turns = 0

    def put(self, camera: str, item: Item) -> bool:
        """Queue an item; true if it replaces an older one of its camera."""
        replaced = camera in self._waiting
        self._waiting[camera] = item
        return replaced

    def take(self, now_s: float) -> dict[str, Item]:
        """Take the items whose turn it is, by camera; there may be none."""
        due = [camera for camera in self._waiting if self._due_s(camera) <= now_s]
        due.sort(key=self._last_turn.__getitem__)  # stable: of equals, the camera that has waited longest
        turn = due[: self.max_batch or None]
        for camera in turn:
            self._turns += 1
            self._last_turn[camera], self._last_turn_s[camera] = self._turns, now_s
        return {camera: self._waiting.pop(camera) for camera in turn}

    def back_off(self, camera: str, until_s: float) -> None:
        """Give a camera no turn before that time, on the clock of :meth:`take`."""
        self._back_off_until_s[camera] = until_s

    def end_backoffs(self) -> None:
        """Let no camera back off any longer."""
        self._back_off_until_s.clear()

    def due_s(self) -> float | None:
        """When the next item may be taken, on the clock of :meth:`take`; None if nothing waits."""
        return min(map(self._due_s, self._waiting), default=None)

    def clear(self) -> list[str]:
        """Drop what waits; returns the cameras of which something did."""
        cameras = list(self._waiting)
        self._waiting.clear()
        return cameras

    def _due_s(self, camera: str) -> float:
        last_s = self._last_turn_s.get(camera)
        next_s = -math.inf if last_s is None else last_s + self.period_s  # a period may be infinite
        return max(next_s, self._back_off_until_s.get(camera, -math.inf))
