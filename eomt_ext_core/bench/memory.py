"""Peak memory of a process: its resident set on a CPU, torch's allocations on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


@dataclass(frozen=True)
class Memory:
    """Memory around frames, in bytes, without that of the libraries.

    Attributes:
        held: before the frames: weights, buffers and CUDA graphs.
        peak: during the frames.
    """

    held: int
    peak: int


class MemoryWatch:
    """Follows the memory of this process; on a CPU it needs Linux's ``/proc``.

    Make it before there is a model: what the process holds then is the libraries'. On a GPU nothing is, and what torch
    has reserved counts: what it says is allocated leaves out the activations of CUDA graphs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.libraries = 0 if device.type == "cuda" else _status_bytes("VmRSS")
        self._held = 0

    def start(self) -> None:
        """Reset the peak, and free cached memory on a GPU; do not use it before a frame that is timed."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self._held = torch.cuda.memory_reserved(self._device)
        else:
            (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
            self._held = _status_bytes("VmRSS")

    def read(self) -> Memory:
        """Return the peak since the start."""
        peak = torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else _status_bytes("VmHWM")
        return Memory(self._held - self.libraries, peak - self.libraries)


def _status_bytes(name: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.removesuffix("kB")) * 1024
    raise OSError(f"{_PROCESS / 'status'} must contain {name}")
