"""The memory of the process for images."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), and the largest value that glibc takes for the second.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_HEAP_BLOCK = 32 << 20


def keep_freed_images() -> bool:
    """Let the C library reuse the memory of freed images rather than give it back to the system after each.

    Memory that was given back has to be mapped and cleared page by page for the next image, which takes longer than
    filling it. With this setting, memory stays at the most that was ever in use. All threads share one arena: with one
    for each, which is the default of glibc, no thread reuses what another one freed, and memory grows.

    Returns:
        whether the C library took the settings; only glibc does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    limits = {_M_MMAP_THRESHOLD: _LARGEST_HEAP_BLOCK, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}
    return all(mallopt(parameter, value) for parameter, value in limits.items())
