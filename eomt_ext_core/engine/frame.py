"""What the engine says of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.engine.transfer import Arrays
from eomt_ext_core.errors import ConfigError

Part = Literal["probability", "confidence", "mask", "semantic"]
"""What a frame can hold; only what you ask for comes from the device."""

ALL_PARTS: frozenset[Part] = frozenset(get_args(Part))
ALL_OF_SCORE: frozenset[Part] = frozenset({"probability", "mask"})

_Held = TypeVar("_Held")


class AnomalyFrame:
    """What the engine says of an image.

    It holds the parts that were asked for; the others raise a ``ConfigError``.

    The arrays belong to the caller; the engine does not keep them. From a GPU they come in page-locked memory, which
    returns to a pool when the last reference is dropped: copy what you keep for long.

    Attributes:
        semantic: (H, W) uint8, the semantic class of each pixel by its index; None if it was not asked for.
        strangeness: how far the image is from ordinary driving, the mean of its pixels' distances; None if drives are
            not watched.
    """

    def __init__(
        self,
        probability: NDArray[np.float32] | None = None,
        mask: NDArray[np.bool_] | None = None,
        semantic: NDArray[np.uint8] | None = None,
        strangeness: float | None = None,
        *,
        confidence: NDArray[np.uint8] | None = None,
    ) -> None:
        self._probability, self._mask, self._confidence = probability, mask, confidence
        self.semantic, self.strangeness = semantic, strangeness

    @property
    def probability(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1], always finite."""
        return _held(self._probability, "probability")

    @property
    def confidence(self) -> NDArray[np.uint8]:
        """The probability as (H, W) uint8, 255 where it is 1, rounded to the nearest, halves to the even one."""
        if self._confidence is None:
            self._confidence = np.asarray(cv2.convertScaleAbs(self.probability, alpha=255.0), np.uint8)
        return self._confidence

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, true where the probability is above the threshold."""
        return _held(self._mask, "mask")


class Explanation(NamedTuple):
    """What the frozen network takes an image for, whatever the score.

    Attributes:
        classes: (H, W) uint8, the semantic class of each pixel.
        statistics: (4, H, W) float32: max_prob, entropy, energy and msp of the semantic map.
    """

    classes: NDArray[np.uint8]
    statistics: NDArray[np.float32]


class SubmittedBatch:
    """Images on their way through an engine, until they are collected.

    Args:
        count: of images.
        names: of the arrays of an image: parts of a frame, and ``strangeness``.
        arrays: waits for the arrays of all images, one image after another; raises an ``InferenceError`` if they cannot
            be true.
    """

    def __init__(self, count: int, names: Sequence[str], arrays: Arrays) -> None:
        self._count, self._names, self._arrays = count, tuple(names), arrays

    def frames(self) -> list[AnomalyFrame]:
        """Wait for a frame for each image, in order."""
        arrays = iter(self._arrays())
        return [_frame({name: next(arrays) for name in self._names}) for _ in range(self._count)]


def _frame(parts: dict[str, Any]) -> AnomalyFrame:
    if "strangeness" in parts:
        parts["strangeness"] = float(parts["strangeness"])
    return AnomalyFrame(**parts)


def _held(part: _Held | None, name: str) -> _Held:
    if part is None:
        raise ConfigError(f"the frame has no {name}, as the batch was submitted without it: add {name} to parts")
    return part
