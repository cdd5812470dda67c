"""How the process keeps memory for images."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), and the largest value that glibc takes for the second.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_HEAP_BLOCK = 32 << 20


def keep_freed_images() -> bool:
    """Let the C library reuse the memory of freed images rather than give it back to the system after each.

    What is given back has to be mapped and cleared page by page for the next image, which takes longer than filling it.
    Memory stays at the most that was in use at a time. All threads share one arena: with one for each, as glibc has it
    else, what a thread has freed is lost to the others, and memory grows whenever a thread first meets another's arena.

    Returns:
        whether it does; only glibc is asked.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    limits = {_M_MMAP_THRESHOLD: _LARGEST_HEAP_BLOCK, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}
    return all(mallopt(parameter, value) for parameter, value in limits.items())
