"""Which images of a camera may still be answered: results never run backwards."""

from __future__ import annotations

JUMP_BACK_S = 1.0
"""A stamp this much older than the last answered one begins the clock anew: a bag starts over, a clock was set."""


class Timeline:
    """The stamps of a camera's answered images, each newer than the one before.

    An image that is not newer is stale, unless it is so much older (``JUMP_BACK_S``) that the clock itself must have
    been set back: then time begins anew there. A stamp of zero is that of a driver which does not stamp; it claims
    nothing and is always taken.

    >>> timeline = Timeline()
    >>> for stamp_ns in (5, 6, 6, 4): print(timeline.take(stamp_ns))
    True
    True
    False
    False
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def take(self, stamp_ns: int) -> bool:
        """Whether the image of this stamp may be answered; if so, it is the last one from now on."""
        if stamp_ns == 0:
            return True
        if self._last_ns is not None and 0 <= self._last_ns - stamp_ns < JUMP_BACK_S * 1e9:
            return False
        self._last_ns = stamp_ns
        return True
