"""Timing of the stages of a frame without delaying the device."""

from __future__ import annotations

import time
from collections import defaultdict

import torch


class StageClock:
    """Mark the ends of stages, on a GPU by events, so that no stage waits for the one before it.

    Args:
        device: of the stages.

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
        """End a stage and begin the next; the parts of a repeated stage are added up.

        A stage that ran ``times`` over counts once.
        """
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((stage, event, times))
        else:
            self._marks.append((stage, time.perf_counter(), times))

    def skip(self) -> None:
        """Discard the time since the last mark."""
        self.mark("")

    def durations_s(self) -> dict[str, float]:
        """Return the seconds of each stage so far, after waiting for the device."""
        synchronize(self._device)
        durations: dict[str, float] = defaultdict(float)
        for (_, begin, _), (stage, end, times) in zip(self._marks, self._marks[1:], strict=False):
            durations[stage] += _seconds_between(begin, end) / times
        durations.pop("", None)
        return dict(durations)


def _seconds_between(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return float(begin.elapsed_time(end)) / 1000
    return float(end) - float(begin)  # type: ignore[arg-type]  # all marks of a clock have the same type


def synchronize(device: torch.device) -> None:
    """Wait until a device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
