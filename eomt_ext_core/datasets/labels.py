"""Labels of a frame: 0 normal, 1 anomalous, 255 void.

Files contain other values too. :class:`LabelValues` maps them to these three, for every command that reads labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from eomt_ext_core.errors import ConfigError, DatasetError

NORMAL = 0
ANOMALOUS = 1
VOID = 255

FloatArray = npt.NDArray[np.floating[Any]]

_KINDS = {"normal": NORMAL, "anomaly": ANOMALOUS, "void": VOID}
_NAMES = {NORMAL: "normal", ANOMALOUS: "anomalous", VOID: "void"}


@dataclass(frozen=True)
class LabelValues:
    """The meaning of the values in the labels of a data set.

    ``meaning``: maps each possible value, 0 to 255, to ``NORMAL``, ``ANOMALOUS`` or ``VOID``. Raises ``ConfigError``
    for any other value or meaning, and for an empty mapping.

    >>> str(LabelValues.parse("normal=0,normal=7,anomaly=255"))
    '0, 7 (normal), 255 (anomalous)'
    """

    meaning: Mapping[int, int]

    def __post_init__(self) -> None:
        if not self.meaning or set(self.meaning.values()) - set(_NAMES):
            raise ConfigError(f"label values must map to 0, 1 or 255, got {dict(self.meaning)}")
        if set(self.meaning) - set(range(256)):
            raise ConfigError(f"label values must lie between 0 and 255, got {_listed(sorted(self.meaning))}")

    @classmethod
    def parse(cls, text: str) -> LabelValues:
        """Parse ``normal=0,anomaly=255``: pairs of a kind and a value or a range of values, ``anomaly=2-200``.

        Raises:
            ConfigError: if the text has another form, or gives a value two meanings.
        """
        meaning: dict[int, int] = {}
        for part in text.split(","):
            kind, _, values = part.strip().partition("=")
            first, dash, last = values.partition("-")
            ends = (first, last) if dash else (first, first)
            if kind not in _KINDS or not all(end.isdecimal() and int(end) < 256 for end in ends):
                raise ConfigError(
                    "label values must look like normal=0,anomaly=255,void=7 or anomaly=2-200, each from 0 to 255, "
                    f"got {part.strip()!r}"
                )
            for value in range(int(ends[0]), int(ends[1]) + 1):
                if meaning.setdefault(value, _KINDS[kind]) != _KINDS[kind]:
                    raise ConfigError(f"a label value must have one meaning, {value} has two in {text!r}")
        return cls(meaning)

    def foreign(self, values: npt.NDArray[np.integer[Any]]) -> list[int]:
        """Return the values of an array that have no meaning, ascending."""
        found = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
        return sorted(set(found.tolist()) - set(self.meaning))

    def apply(self, values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Map an array of any shape to labels 0, 1 or 255.

        Raises:
            DatasetError: if a value has no meaning, or the values are not integers.
        """
        if values.dtype.kind not in "biu":
            raise DatasetError(f"labels must be integers, got {values.dtype}")
        if foreign := self.foreign(values):
            raise DatasetError(unknown_values(foreign, [self]))
        table = np.zeros(256, dtype=np.uint8)
        table[list(self.meaning)] = list(self.meaning.values())
        return np.asarray(table[values.astype(np.uint8, copy=False)], dtype=np.uint8)

    def __str__(self) -> str:
        """List the values of each kind."""
        found = {kind: [value for value, meaning in self.meaning.items() if meaning == kind] for kind in _NAMES}
        return ", ".join(f"{_listed(sorted(values))} ({_NAMES[kind]})" for kind, values in found.items() if values)


PLAIN_LABELS = LabelValues({0: NORMAL, 1: ANOMALOUS, 255: VOID})


def unknown_values(foreign: Sequence[int], known: Sequence[LabelValues]) -> str:
    """Make the message for label values without a meaning."""
    return (
        f"label values must be {' or '.join(map(str, known))}, got {_listed(foreign)}: define their meaning by "
        f"{_way_out('normal=…,anomaly=…', '{…: 0, …: 1}')}"
    )


@dataclass
class LabelCensus:
    """Count the pixels of a labelled set by value and meaning.

    Without anomalous or normal pixels, AuPRC, FPR95 and AUROC are undefined, and a head learns nothing.
    """

    pixels: Counter[tuple[int, int]] = field(default_factory=Counter)  # by value and kind
    num_maps: int = 0

    def add(self, values: npt.NDArray[np.integer[Any]], label_values: LabelValues) -> None:
        """Count a label map; all its values must have a meaning."""
        counts = np.bincount(values.astype(np.uint8, copy=False).ravel(), minlength=256)
        for value in np.flatnonzero(counts).tolist():
            self.pixels[value, label_values.meaning[value]] += int(counts[value])
        self.num_maps += 1

    def merge(self, other: LabelCensus) -> None:
        """Add everything counted by ``other``."""
        self.pixels.update(other.pixels)
        self.num_maps += other.num_maps

    @property
    def missing(self) -> tuple[str, ...]:
        """The kinds without pixels: ``"anomalous"``, ``"normal"``, both or none."""
        found = {kind for _, kind in self.pixels}
        return tuple(_NAMES[kind] for kind in (ANOMALOUS, NORMAL) if kind not in found)

    def problem(self) -> str:
        """Describe the missing kinds, the values found and the way out; empty if nothing is missing."""
        if not self.missing:
            return ""
        found = ", ".join(
            f"{value} ({_NAMES[kind]}) in {count:,} pixels" for (value, kind), count in sorted(self.pixels.items())
        )
        what = " and no ".join(self.missing)
        return (
            f"a labelled set must have anomalous and normal pixels, got no {what} one in {self.num_maps} label maps "
            f"with the values {found or 'none'}: {self._advice()}"
        )

    def _advice(self) -> str:
        normal = [value for value, kind in sorted(self.pixels) if kind == NORMAL]
        void = [value for value, kind in sorted(self.pixels) if kind == VOID]
        if self.missing == ("anomalous",) and len(void) == 1:
            text = ",".join([*(f"normal={value}" for value in normal), f"anomaly={void[0]}"])
            mapping = {**dict.fromkeys(normal, NORMAL), void[0]: ANOMALOUS}
            return f"if {void[0]} marks the anomalies, pass {_way_out(text, str(mapping))}"
        return f"add such frames, or pass the right values by {_way_out('normal=…,anomaly=…', '{…: 0, …: 1}')}"


def _way_out(text: str, mapping: str) -> str:
    return f"--label-values {text} (in a training configuration label_values: {mapping})"


def _listed(values: Sequence[int]) -> str:
    """Join values for a message, shortening runs."""
    if len(values) > 3 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}…{values[-1]}"
    return ", ".join(str(value) for value in values[:8]) + (", …" if len(values) > 8 else "")


def check_frame(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[Any]]:
    """Check that scores and labels fit each other; returns both as arrays.

    ``scores`` are floats of any range, larger is more anomalous (float16 becomes float32, without loss). ``labels`` are
    integers or booleans of the same shape, 0 normal, 1 anomalous, 255 void. Raises ``DatasetError`` for different
    shapes, other types or label values, and scores of valid pixels that are not finite.
    """
    score_array = np.asarray(scores)
    label_array = np.asarray(labels)
    if score_array.shape != label_array.shape:
        raise DatasetError(
            f"scores and labels must have the same shape, got {score_array.shape} and {label_array.shape}: "
            "resize the scores to the size of the labels"
        )
    if score_array.dtype not in (np.float16, np.float32, np.float64):
        raise DatasetError(f"scores must be float16, float32 or float64, got {score_array.dtype}: cast them")
    if label_array.dtype.kind not in "biu":
        raise DatasetError(f"labels must be integers (0, 1 or 255), got {label_array.dtype}: cast them")
    num_known = sum(int(np.count_nonzero(label_array == value)) for value in (NORMAL, ANOMALOUS, VOID))
    if num_known != label_array.size:
        foreign = PLAIN_LABELS.foreign(label_array)
        raise DatasetError(
            f"labels must be 0 (normal), 1 (anomalous) or 255 (void), got {_listed(foreign)} in "
            f"{label_array.size - num_known} pixels: map the labels of this data set first"
        )
    finite = np.isfinite(score_array)
    if not finite.all():
        broken = ~finite & (label_array != VOID)
        num_broken = int(np.count_nonzero(broken))
        num_nan = int(np.count_nonzero(np.isnan(score_array) & broken))
        if num_broken:
            raise DatasetError(
                f"scores of valid pixels must be finite, got {num_nan} NaN and {num_broken - num_nan} infinite "
                f"among {int(np.count_nonzero(label_array != VOID))}: fix the model, or mark those pixels void"
            )
    if score_array.dtype == np.float16:
        score_array = score_array.astype(np.float32)
    return score_array, label_array
