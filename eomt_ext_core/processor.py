"""What the processor says of itself, where the system is Linux."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is Arm's


@cache
def multiplies_bf16() -> bool:
    """Whether it multiplies in bfloat16; no where the system does not tell."""
    flags = f"{cpu_info('flags')} {cpu_info('Features')}"  # x86, Arm
    return not _BF16_FLAGS.isdisjoint(flags.split())


def cpu_info(field: str) -> str:
    """What the system says of its first core under a name such as ``model name``; nothing where it does not."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
