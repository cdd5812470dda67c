"""Metadata of an exported file, so that it needs no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import MOST_BATCH, MOST_CLASSES, MOST_WINDOW_PIXELS, SCORES
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.metadata import check_info, check_origin, read_json, write_json

VERSION = 1
FILE_PRECISIONS = ("fp32", "fp16", "int8")
_PREFIX = "eomt_ext."
_VERSION_KEY = f"{_PREFIX}version"


@dataclass(frozen=True)
class ExportContents:
    """Metadata of an exported file.

    Attributes:
        crop_hw: size of a window in pixels.
        num_classes: semantic classes.
        outputs: names of its outputs, in order: scores, and ``SEMANTIC`` if it has the semantic map.
        precision: of its network: ``fp32``, ``fp16``, or ``int8`` linear layers in an fp32 network.
        score_stride: 1, 2 or 4.
        batch: windows in each call, or 0 for any number.
        info: metadata of the checkpoint (calibration, class names …).
        origin: SHA-256 of the source files, by name (``checkpoint_sha256`` …).

    Raises:
        CheckpointError: if a value has a wrong type, or is out of range.
    """

    crop_hw: tuple[int, int]
    num_classes: int
    outputs: tuple[str, ...]
    precision: str
    score_stride: int
    batch: int
    info: Mapping[str, Any]
    origin: Mapping[str, str]

    def __post_init__(self) -> None:
        rules = {
            "crop_hw": len(self.crop_hw) == 2
            and all(map(_is_count, self.crop_hw))
            and math.prod(self.crop_hw) <= MOST_WINDOW_PIXELS,
            "num_classes": _is_count(self.num_classes) and self.num_classes <= MOST_CLASSES,
            "outputs": bool(self.outputs)
            and all(name in (*SCORES, SEMANTIC) for name in self.outputs)
            and len(set(self.outputs)) == len(self.outputs),
            "precision": self.precision in FILE_PRECISIONS,
            "score_stride": _is_count(self.score_stride) and self.score_stride in (1, 2, 4),
            "batch": _is_count(self.batch, 0) and self.batch <= MOST_BATCH,
        }
        for name, holds in rules.items():
            if not holds:
                raise CheckpointError(f"its {name} cannot be {getattr(self, name)!r}")
        object.__setattr__(self, "info", check_info(self.info, self.num_classes))
        object.__setattr__(self, "origin", check_origin(self.origin))

    @property
    def scores(self) -> tuple[str, ...]:
        """The outputs without the semantic map."""
        return tuple(name for name in self.outputs if name != SEMANTIC)

    def to_metadata(self) -> dict[str, str]:
        """Return JSON texts by name.

        Raises:
            CheckpointError: if ``info`` has values that JSON does not have.
        """
        stored = {_PREFIX + name: write_json(value) for name, value in asdict(self).items()}
        return {_VERSION_KEY: str(VERSION), **stored}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> ExportContents:
        """Read the metadata back.

        Raises:
            CheckpointError: if the file was not written by this package, has another version, or is damaged.
        """
        version = metadata.get(_VERSION_KEY)
        if version is None:
            raise CheckpointError("it was not written by `eomt-ext export`: its metadata are missing")
        if version != str(VERSION):
            raise CheckpointError(f"its version must be {VERSION}, got {version}: export it again with this package")
        try:
            values = {item.name: read_json(metadata[_PREFIX + item.name]) for item in fields(cls)}
        except KeyError as error:
            raise CheckpointError(f"its metadata must contain {error}") from error
        for name in ("crop_hw", "outputs"):
            if not isinstance(values[name], list):
                raise CheckpointError(f"its {name} must be a list, got {values[name]!r}")
            values[name] = tuple(values[name])
        return cls(**values)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
