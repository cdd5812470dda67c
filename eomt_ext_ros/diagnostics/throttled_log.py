"""The node's log of errors that come with images: rare enough to be read."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from typing import Any

from eomt_ext_core.errors import EomtExtError

LOG_PERIOD_S = 5.0


class ThrottledLog:
    """Log errors of a kind at most once a period, and how many there were; for use by several threads.

    Args:
        node: whose logger is used until its context ends; from then on ROS refuses everything.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._logged_at_s: dict[str, float] = {}

    def error(self, kind: str, text: str) -> None:
        """Log an error, unless one of its kind was logged within the last ``LOG_PERIOD_S`` of the steady clock."""
        if not self._node.context.ok():
            return
        now_s = time.monotonic()
        with self._lock:
            self._counts[kind] += 1
            if now_s - self._logged_at_s.get(kind, float("-inf")) < LOG_PERIOD_S:
                return
            self._logged_at_s[kind] = now_s
            total = self._counts[kind]
        self._node.get_logger().error(f"{text} (number {total} of this kind)")


def in_brief(error: BaseException) -> str:
    """Describe an error in one line: its message if it is one of ours, else with the exception's name."""
    return str(error) if isinstance(error, EomtExtError) else f"{type(error).__name__}: {error}"


def explained(error: BaseException) -> str:
    """Describe an error in full: its message if it is one of ours, else the traceback."""
    if isinstance(error, EomtExtError):
        return str(error)
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
