"""Changes to bytes and to JSON, drawn by a seed."""

from __future__ import annotations

import copy
import random
from typing import Any

# Values that a reader may not expect: of another type, out of range, too long, or names of something else.
_STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("-inf"), "", "x", "7",
    "x" * 30_000, "hf-hub:someone/anything", "/etc/passwd", "../../x", "\x00\x1b[2J", "\ud800", [], {}, [[]], [1, 2],
    [32768, 32768], [4096, 4096], [-16, 16], [16.0, 16.0], {"a": 1}, [None] * 1000, "vit_giant_patch14_reg4_dinov2",
)  # fmt: skip


def mutate_bytes(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Damage data at one or two places, mostly near the beginning; returns a description first."""
    how = chance.choice(("flip", "flip", "cut", "insert", "zero", "repeat", "move"))
    near = chance.random() < 0.6
    start = chance.randrange(min(len(data), 4096) if near else len(data))
    length = chance.choice((1, 4, 64, 4096))
    if how == "flip":
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 3, 20))):
            changed[min(len(data) - 1, start + chance.randrange(256))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x2E))
        return how, bytes(changed)
    if how == "cut":
        return how, data[: chance.choice((start, len(data) - 1, len(data) // 2))]
    if how == "insert":
        return how, data[:start] + chance.randbytes(length) + data[start:]
    if how == "zero":
        return how, data[:start] + bytes(len(data[start : start + length])) + data[start + length :]
    if how == "repeat":
        return how, data[: start + length] + data[start:]
    return how, data[:start] + data[start + length :] + data[start : start + length]


def mutate_json(value: Any, chance: random.Random) -> tuple[str, Any]:
    """Change a value somewhere inside; returns a description first."""
    changed = copy.deepcopy(value)
    inside, key, path = {"": changed}, "", ""
    holder: Any = inside
    while isinstance(holder[key], dict | list) and holder[key] and chance.random() < 0.85:
        holder = holder[key]
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        path = f"{path}.{key}"[-60:]
    how = chance.choice(("strange", "strange", "strange", "drop", "rename", "deep"))
    if how == "drop" and holder is not inside:
        del holder[key]
    elif how == "rename" and isinstance(holder, dict) and holder is not inside:
        holder[str(chance.choice(("", "x", "version", "x" * 30_000)))] = holder.pop(key)
    elif how == "deep":
        for _ in range(chance.choice((3, 40, 900))):
            holder[key] = [holder[key]]
    else:
        how = "strange"
        holder[key] = copy.deepcopy(chance.choice(_STRANGE))
    return f"{how} at {path or 'the top'}", inside[""]
