"""What an exported file says of itself, so that it is enough alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import SCORES
from eomt_ext_core.errors import CheckpointError

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
        CheckpointError: where a value is not of its kind.
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
            "crop_hw": len(self.crop_hw) == 2 and all(_is_count(side) for side in self.crop_hw),
            "num_classes": _is_count(self.num_classes),
            "outputs": bool(self.outputs) and set(self.outputs) <= {*SCORES, SEMANTIC},
            "precision": self.precision in ("fp32", "fp16"),
            "score_stride": self.score_stride in (1, 2, 4),
            "batch": _is_count(self.batch) or self.batch == 0,
            "info": isinstance(self.info, Mapping),
            "origin": isinstance(self.origin, Mapping),
        }
        for name, holds in rules.items():
            if not holds:
                raise CheckpointError(f"its {name} cannot be {getattr(self, name)!r}")

    @property
    def scores(self) -> tuple[str, ...]:
        """The outputs but for the semantic map."""
        return tuple(name for name in self.outputs if name != SEMANTIC)

    def to_metadata(self) -> dict[str, str]:
        """Texts by name, each JSON.

        Raises:
            CheckpointError: where ``info`` holds more than JSON values.
        """
        try:
            stored = {_PREFIX + name: json.dumps(value, sort_keys=True) for name, value in asdict(self).items()}
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"model.info must be JSON values: {error}") from error
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
            values = {item.name: json.loads(metadata[_PREFIX + item.name]) for item in fields(cls)}
            values["crop_hw"], values["outputs"] = tuple(values["crop_hw"]), tuple(values["outputs"])
            return cls(**values)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"its metadata cannot be read: {type(error).__name__} {error}") from error


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
