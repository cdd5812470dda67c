"""Renaming of the tensors of a layout, and joining of those that are one tensor in another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError


@dataclass(frozen=True)
class Join:
    """Parts of one tensor, in their order along its first dimension.

    ``pattern`` matches the name of a part, which its group ``part`` holds; ``target`` is the name of the whole.
    """

    pattern: str
    parts: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class Renaming:
    """The names of a layout in another one: patterns and replacements, of which the first match is used."""

    names: tuple[tuple[str, str], ...]
    joins: tuple[Join, ...] = ()

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename all tensors; names without a match stay, and so do incomplete parts.

        Raises:
            CheckpointError: if two tensors get one name, or parts of one tensor differ in shape.
        """
        places: dict[str, dict[str, tuple[str, Tensor]]] = {}
        all_parts: dict[str, tuple[str, ...]] = {}
        for key, value in state.items():
            target, part, parts = self._place(key)
            found = places.setdefault(target, {})
            if part in found or all_parts.setdefault(target, parts) != parts:
                other, _ = found.get(part) or next(iter(found.values()))
                raise CheckpointError(f"a tensor must be there once, but {other} and {key} are both {target}")
            found[part] = (key, value)
        renamed: dict[str, Tensor] = {}
        for target, found in places.items():
            if len(found) < len(all_parts[target]):
                renamed |= dict(found.values())
            else:
                renamed[target] = _joined([found[part] for part in all_parts[target]])
        return renamed

    def _place(self, key: str) -> tuple[str, str, tuple[str, ...]]:
        """The name that a tensor gets, which part of that it is, and all of these parts."""
        for join in self.joins:
            if match := re.fullmatch(join.pattern, key):
                return match.expand(join.target), match["part"], join.parts
        for pattern, replacement in self.names:
            if match := re.fullmatch(pattern, key):
                return match.expand(replacement), "", ("",)
        return key, "", ("",)


def _joined(parts: list[tuple[str, Tensor]]) -> Tensor:
    (key, first), *others = parts
    if not others:
        return first
    if first.ndim == 0 or any(part.shape != first.shape for _, part in others):
        shapes = ", ".join(str(tuple(part.shape)) for _, part in parts)
        raise CheckpointError(f"{key} and its neighbours must have one shape, got {shapes}")
    return torch.cat([part for _, part in parts])
