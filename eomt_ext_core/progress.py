"""Progress of a long command: a bar on a terminal, elsewhere a line every 30 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

LINE_PERIOD_S = 30.0

Item = TypeVar("Item")
Update = Callable[[int, str], None]
"""Called with the number of items done, and with a note to show."""


class ProgressLines:
    """Lines on standard error with progress and remaining time, if there is no terminal for a bar.

    Args:
        what: name of the items.
        total: number of items, if known.
        first: number of items done before this run, if it continues an interrupted one.
        clock: seconds of a steady clock.
    """

    def __init__(
        self, what: str, total: int | None, first: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._total, self._first, self._clock = what, total, first, clock
        self._began = self._written = clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time for another line."""
        return self._clock() - self._written >= LINE_PERIOD_S

    def update(self, done: int, note: str = "") -> None:
        """Write a line if one is due."""
        if self.is_due:
            self._written = self._clock()
            print(self.line(done, note), file=sys.stderr, flush=True)

    def line(self, done: int, note: str = "") -> str:
        """Format a line.

        >>> ticks = iter([0.0, 90.0])
        >>> ProgressLines("frames", 400, clock=lambda: next(ticks)).line(100, "loss 0.25")
        'frames: 100 of 400, loss 0.25, 4 min 30 s left'
        """
        parts = [f"{self._what}: {done}" + (f" of {self._total}" if self._total is not None else "")]
        parts += [note] if note else []
        if self._total is not None and done > self._first:
            left_s = (self._clock() - self._began) * (self._total - done) / (done - self._first)
            parts.append(f"{_duration(left_s)} left")
        return ", ".join(parts)


_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def hidden_progress() -> Iterator[None]:
    """Show no progress in a block."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def is_hidden() -> bool:
    """Whether progress is not to be shown."""
    return _hidden.get()


@contextmanager
def progress(what: str, total: int, *, first: int = 0, shown: bool = True) -> Iterator[Update]:
    """Show the progress of a block: a bar if standard error is a terminal, else lines.

    Args:
        what: name of the items.
        total: number of items; nothing is shown for 0.
        first: number of items done before, if an interrupted run goes on.
        shown: false if another process shows the progress.
    """
    if not shown or not total or is_hidden():
        yield lambda done, note: None
    elif not sys.stderr.isatty():
        yield ProgressLines(what, total, first).update
    else:
        from rich import progress as rich
        from rich.console import Console

        columns = rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeElapsedColumn(), rich.TimeRemainingColumn()
        with rich.Progress(rich.TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total, completed=first)
            yield lambda done, note: bar.update(task, completed=done, description=f"{what}, {note}" if note else what)


def tracked(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items, and show the progress."""
    with progress(what, total) as update:
        for done, item in enumerate(items, start=1):
            yield item
            update(done, "")


def _duration(seconds: float) -> str:
    minutes, remaining_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {remaining_s} s" if minutes else f"{remaining_s} s"
