"""What memory allows the images of one camera, and how it has more again by and by."""

from __future__ import annotations

import math
from dataclasses import dataclass

REGROW_PERIOD_S = 60.0
"""After which a camera whose batch was made smaller has more; doubled where that was too much."""
LONGEST_REGROW_PERIOD_S = 960.0
FREE_PERIOD_S = 10.0
"""At least, between two times that memory is freed for one and the same batch of a camera, where that helps."""
VAIN_FREE_PERIOD_S = 60.0
"""The same where it does not."""
SILENT_AFTER_S = 10.0
"""After which a camera of which no image comes is no longer reckoned with."""


@dataclass
class MemoryShare:
    """How a camera's images are batched.

    A share is made smaller at once and grows slowly: its windows are doubled, up to as many as the image has, and only
    after another while do its images go with those of the other cameras again.

    Attributes:
        is_alone: whether its images have batches of their own.
        windows: most in such a batch; none for as many as configured.
        more_at_s: when it may have more, on a steady clock.
        regrow_s: how long it waits for that.
        has_grown: whether it had more last, which has not held for as long yet.
        free_at_s: when memory may be freed for its least batch.
        was_short: whether its last image was too much all the same.
        took_s: for which that one was tried alone.
        expected_until_s: when its next image should be there, unless the others take long.
        last_turn: the number of its last turn.
    """

    is_alone: bool = False
    windows: int | None = None
    more_at_s: float = math.inf
    regrow_s: float = REGROW_PERIOD_S
    has_grown: bool = False
    free_at_s: float = -math.inf
    was_short: bool = False
    took_s: float = 0.0
    expected_until_s: float = -math.inf
    last_turn: int = 0

    def begin_turn(self, number: int, now_s: float) -> None:
        """Note that an image of the camera is to be tried."""
        self.last_turn, self.took_s = number, 0.0
        self.expect(0.0, now_s)

    def go_alone(self, now_s: float) -> None:
        """Leave the common batch for a while."""
        self.is_alone, self.more_at_s = True, now_s + self.regrow_s

    def take_less(self, windows: int, now_s: float) -> None:
        """Have no more than so many for a while."""
        if self.has_grown:
            self.regrow_s = min(2 * self.regrow_s, LONGEST_REGROW_PERIOD_S)
        self.windows, self.has_grown = windows, False
        self.go_alone(now_s)

    def take_more(self, windows: int, now_s: float) -> None:
        """Have more where it is time to; ``windows`` are as many as the image can use."""
        if now_s < self.more_at_s:
            return
        if not self.is_alone:  # and that has held
            self.more_at_s, self.regrow_s, self.has_grown = math.inf, REGROW_PERIOD_S, False
            return
        if self.windows is None:
            self.is_alone = False
        else:
            self.windows = 2 * self.windows if 2 * self.windows < windows else None
        self.more_at_s, self.has_grown = now_s + self.regrow_s, True

    def expect(self, in_s: float, now_s: float) -> None:
        """Reckon with the camera, whose next turn is not before ``in_s``."""
        self.expected_until_s = now_s + in_s + SILENT_AFTER_S

    def was_freed_for(self, helped: bool, now_s: float) -> None:
        """Note that memory was freed, and whether the image had room then."""
        self.free_at_s = now_s + (FREE_PERIOD_S if helped else VAIN_FREE_PERIOD_S)
