"""What an exported file says of itself, so that it is enough alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import MOST_CLASSES, MOST_WINDOW_PIXELS, SCORES
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.export.export_config import MOST_BATCH
from eomt_ext_core.model.metadata import check_info, check_origin, read_json, write_json

VERSION = 1
_PREFIX = "eomt_ext."
_VERSION_KEY = f"{_PREFIX}version"


@dataclass(frozen=True)
class ExportContents:
    """Facts about an exported file.

    Attributes:
        crop_hw: size of a window in pixels.
        num_classes: known classes.
        outputs: names of its outputs, in order: scores, and ``SEMANTIC`` where it has the semantic map.
        precision: of its network, ``fp32`` or ``fp16``.
        score_stride: 1, 2 or 4.
        batch: windows of a call: exactly so many, or 0 for any number.
        info: the checkpoint's own (calibration, class names …).
        origin: SHA-256 of the files it was made from, by name (``checkpoint_sha256`` …).

    Raises:
        CheckpointError: where a value is not of its type, or out of range.
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
            "precision": self.precision in ("fp32", "fp16"),
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
        """The outputs but for the semantic map."""
        return tuple(name for name in self.outputs if name != SEMANTIC)

    def to_metadata(self) -> dict[str, str]:
        """Texts by name, each JSON.

        Raises:
            CheckpointError: where ``info`` holds more than JSON values.
        """
        stored = {_PREFIX + name: write_json(value) for name, value in asdict(self).items()}
        return {_VERSION_KEY: str(VERSION), **stored}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> ExportContents:
        """Read them back.

        Raises:
            CheckpointError: where the file is not one of ours, of another version, or damaged.
        """
        version = metadata.get(_VERSION_KEY)
        if version is None:
            raise CheckpointError("it was not written by `eomt-ext export`: nothing in it says what its outputs are")
        if version != str(VERSION):
            raise CheckpointError(f"its version must be {VERSION}, got {version}: export it anew with this package")
        try:
            values = {item.name: read_json(metadata[_PREFIX + item.name]) for item in fields(cls)}
        except KeyError as error:
            raise CheckpointError(f"its metadata must hold {error}") from error
        for name in ("crop_hw", "outputs"):
            if not isinstance(values[name], list):
                raise CheckpointError(f"its {name} cannot be {values[name]!r}")
            values[name] = tuple(values[name])
        return cls(**values)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
