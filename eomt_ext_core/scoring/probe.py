"""A known answer: an image, and what a model gave for it in float32, stored with the model."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import MOST_WINDOW_PIXELS, SCORES
from eomt_ext_core.errors import CheckpointError

PROBE = "probe"
GRID_HW = 12, 20
_MOST_PIXELS = 1 << 16
_LARGEST = 1e9


@dataclass(frozen=True)
class Probe:
    """An image and its scores.

    Attributes:
        crop_hw: size in pixels of the window that the model was asked with.
        image_rgb: (h, w, 3) uint8, of the shape of the window, which one window covers.
        scores: by name, the score before it becomes a probability, averaged over the cells of ``GRID_HW``, float64.

    Raises:
        CheckpointError: if something is not of its type, its size or its range.
    """

    crop_hw: tuple[int, int]
    image_rgb: NDArray[np.uint8]
    scores: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        (height, width), crop = self.image_rgb.shape[:2], self.crop_hw
        rules = {
            "crop_hw": min(crop) > 0 and math.prod(crop) <= MOST_WINDOW_PIXELS,
            "image": 0 < height * width <= _MOST_PIXELS and height * crop[1] == width * crop[0],
            "scores": bool(self.scores) and set(self.scores) <= set(SCORES),
        }
        rules |= {
            name: score.shape == GRID_HW and bool((np.abs(score) <= _LARGEST).all())
            for name, score in self.scores.items()
        }
        wrong = [name for name, holds in rules.items() if not holds]
        if wrong:
            raise CheckpointError(f"its probe must be an image with finite scores, its {', '.join(wrong)} cannot be")

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Probe | None:
        """Read the probe in a checkpoint's ``info``; None if there is none.

        Raises:
            CheckpointError: if it is damaged.
        """
        if PROBE not in info:
            return None
        try:
            stored = info[PROBE]
            height, width = (int(side) for side in stored["crop_hw"])
            rows = [np.frombuffer(base64.b64decode(row, validate=True), np.uint8) for row in stored["image"]]
            image = np.stack(rows).reshape(len(rows), -1, 3)
            scores = {name: np.array(score, np.float64).reshape(GRID_HW) for name, score in stored["scores"].items()}
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
            raise CheckpointError(f"its probe cannot be read: {type(error).__name__}: {error}") from error
        return cls((height, width), image, scores)

    def to_json(self) -> dict[str, Any]:
        """JSON values for ``info``, which :meth:`of` reads."""
        return {
            "crop_hw": list(self.crop_hw),
            "image": [base64.b64encode(row.tobytes()).decode() for row in self.image_rgb],
            "scores": {name: [float(f"{value:.7g}") for value in score.ravel()] for name, score in self.scores.items()},
        }


def without_head(info: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's ``info`` for another head than its own: what it says of the head is left out."""
    kept = {name: value for name, value in info.items() if name not in ("calibration", PROBE)}
    if PROBE in info:
        scores = {name: score for name, score in info[PROBE]["scores"].items() if name != "head"}
        if scores:
            kept[PROBE] = {**info[PROBE], "scores": scores}
    return kept
