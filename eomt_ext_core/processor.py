"""Facts on the processor, from Linux."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is Arm's


@cache
def multiplies_bf16() -> bool:
    """Whether the processor supports products in bfloat16; false if that is unknown."""
    flags = f"{cpu_info('flags')} {cpu_info('Features')}"  # x86, Arm
    return not _BF16_FLAGS.isdisjoint(flags.split())


@cache
def has_tiles() -> bool:
    """Whether the processor multiplies bfloat16 in tiles (AMX)."""
    return "amx_bf16" in cpu_info("flags").split()


def cpu_info(field: str) -> str:
    """Return a field of the first core, such as ``model name``; empty if it is unknown."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
