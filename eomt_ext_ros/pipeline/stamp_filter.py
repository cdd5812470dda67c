"""Which images of a camera may still be published: stamps never run backwards."""

from __future__ import annotations

JUMP_BACK_S = 1.0
"""A stamp that is this much older than the last one starts over: a bag was restarted, or a clock was set."""


class StampFilter:
    """Accept the images of a camera whose stamps are newer than all before.

    An image that is not newer is stale, unless it is older by ``JUMP_BACK_S`` or more: then the clock itself was set
    back, and stamps count from there. A stamp of zero comes from a driver that does not stamp, and is always accepted.

    >>> stamps = StampFilter()
    >>> [stamps.accept(stamp_ns) for stamp_ns in (5, 6, 6, 4)]
    [True, True, False, False]
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def accept(self, stamp_ns: int) -> bool:
        """Take the stamp as the newest one unless it is stale; returns whether it was taken."""
        if stamp_ns == 0:
            return True
        if self._last_ns is not None and 0 <= self._last_ns - stamp_ns < JUMP_BACK_S * 1e9:
            return False
        self._last_ns = stamp_ns
        return True
