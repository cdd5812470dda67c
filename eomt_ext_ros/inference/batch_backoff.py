"""How many windows at a time memory allows, for one camera or for all together, and how they come back."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
GROW_PERIOD_S, LONGEST_GROW_PERIOD_S = 60.0, 960.0


@dataclass
class BatchBackoff:
    """What failures have taken from the batches of a camera, or from those of all cameras together.

    They take it at once, and it comes back slowly: after a minute without a failure the windows are doubled, and again
    after each further minute; when they are as many as configured, the camera joins the common batch again. If such a
    step fails, the wait for the next one is doubled, up to 16 minutes.

    Attributes:
        windows: most windows at a time; None for as many as configured.
        is_alone: whether the camera has calls of its own.
        backoff_s: how long the camera backed off last; 0 after an image that fitted in memory.
        failed_at_s: when memory was short last, on a steady clock.
        processed_at_s: when an image was processed last.
    """

    windows: int | None = None
    is_alone: bool = False
    backoff_s: float = 0.0
    failed_at_s: float = -math.inf
    processed_at_s: float = -math.inf
    _grow_at_s: float = math.inf
    _grow_period_s: float = GROW_PERIOD_S
    _has_grown: bool = False

    def restrict(self, now_s: float, windows: int | None) -> None:
        """Give the camera calls of its own for a while, and no more than so many windows, unless that is None."""
        if windows is not None:
            self.windows = windows
        if self._has_grown:
            self._grow_period_s = min(2 * self._grow_period_s, LONGEST_GROW_PERIOD_S)
        self.is_alone, self._has_grown, self._grow_at_s = True, False, now_s + self._grow_period_s

    def grow(self, now_s: float, most: int) -> None:
        """Take the next step back if nothing has failed for long enough; ``most`` windows are all that are of use."""
        if now_s < self._grow_at_s:
            return
        if self.windows is not None:
            self.windows = 2 * self.windows if 2 * self.windows < most else None
        elif self.is_alone:
            self.is_alone = False
        else:  # the last step has held too
            self._grow_at_s, self._grow_period_s, self._has_grown = math.inf, GROW_PERIOD_S, False
            return
        self._grow_at_s, self._has_grown = now_s + self._grow_period_s, True

    def back_off(self, now_s: float, others_wait: bool) -> float:
        """Give how long to back off, in seconds: twice as long as before if other cameras wait meanwhile, else 1 s."""
        longer_s = min(2 * self.backoff_s, LONGEST_BACKOFF_S) if others_wait else 0.0
        self.backoff_s, self.failed_at_s = max(longer_s, FIRST_BACKOFF_S), now_s
        return self.backoff_s
