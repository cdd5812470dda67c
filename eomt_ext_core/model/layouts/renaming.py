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
            CheckpointError: if parts of one tensor differ in shape.
        """
        renamed: dict[str, Tensor] = {}
        parts: dict[str, dict[str, tuple[str, Tensor]]] = {}
        for key, value in state.items():
            for join in self.joins:
                if match := re.fullmatch(join.pattern, key):
                    found = parts.setdefault(match.expand(join.target), {})
                    found[match["part"]] = (key, value)
                    if len(found) == len(join.parts):
                        renamed[match.expand(join.target)] = _joined([found[part][1] for part in join.parts], key)
                    break
            else:
                renamed[self._name(key)] = value
        incomplete = [found for target, found in parts.items() if target not in renamed]
        return renamed | {key: value for found in incomplete for key, value in found.values()}

    def _name(self, key: str) -> str:
        for pattern, replacement in self.names:
            if match := re.fullmatch(pattern, key):
                return match.expand(replacement)
        return key


def _joined(parts: list[Tensor], key: str) -> Tensor:
    if any(part.ndim == 0 or part.shape != parts[0].shape for part in parts):
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise CheckpointError(f"{key} and its neighbours must have one shape, got {shapes}")
    return torch.cat(parts)
