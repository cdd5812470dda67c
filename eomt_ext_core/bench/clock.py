"""Timing the stages of a frame without holding up the device."""

from __future__ import annotations

import time
from collections import defaultdict

import torch


class StageClock:
    """Marks the ends of stages; on a GPU by events, so that no stage waits for the one before it.

    Args:
        device: where the stages run.

    >>> clock = StageClock(torch.device("cpu"))
    >>> clock.mark("network")
    >>> clock.mark("scoring")
    >>> list(clock.durations_s())
    ['network', 'scoring']
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event, int]] = []
        synchronize(device)
        self.skip()

    def mark(self, stage: str, times: int = 1) -> None:
        """End a stage; the next one begins. A stage may end several times: its parts are added up.

        Where it was done ``times`` over, a share of that is counted.
        """
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((stage, event, times))
        else:
            self._marks.append((stage, time.perf_counter(), times))

    def skip(self) -> None:
        """Count what has been done since the last mark to no stage."""
        self.mark("")

    def durations_s(self) -> dict[str, float]:
        """Give the seconds of each stage marked so far, once the device is done."""
        synchronize(self._device)
        durations: dict[str, float] = defaultdict(float)
        for (_, begin, _), (stage, end, times) in zip(self._marks, self._marks[1:], strict=False):
            durations[stage] += _seconds_between(begin, end) / times
        durations.pop("", None)
        return dict(durations)


def _seconds_between(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return float(begin.elapsed_time(end)) / 1000
    return float(end) - float(begin)  # type: ignore[arg-type]  # a clock's marks are of one kind


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
