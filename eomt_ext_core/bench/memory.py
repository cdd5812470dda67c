"""Peak memory of a process: what it holds resident on a CPU, what torch has allocated on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


@dataclass(frozen=True)
class Memory:
    """Memory around a frame, in bytes, beyond what the libraries alone take.

    Attributes:
        held: before the frame: weights and buffers.
        peak: the most during the frame.
    """

    held: int
    peak: int


class MemoryWatch:
    """Follows the memory of this process; on a CPU it needs Linux's ``/proc``.

    Make it before there is a model: what the process holds then is the libraries'. On a GPU nothing is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.libraries = 0 if device.type == "cuda" else _status_bytes("VmRSS")
        self._held = 0

    def start(self) -> None:
        """Forget the peak so far."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._held = torch.cuda.memory_allocated(self._device)
        else:
            (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
            self._held = _status_bytes("VmRSS")

    def read(self) -> Memory:
        """Give the peak since the start."""
        peak = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else _status_bytes("VmHWM")
        return Memory(self._held - self.libraries, peak - self.libraries)


def _status_bytes(name: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.removesuffix("kB")) * 1024
    raise OSError(f"{_PROCESS / 'status'} must tell {name}, it does not")
