"""What the engine says of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AnomalyFrame:
    """What the engine says of an image.

    Attributes:
        probability: (H, W) float32 in [0, 1], always finite.
        mask: (H, W) bool, where the probability is above the threshold.
        semantic: (H, W) uint8, the known class of each pixel by its index, where it was asked for; else None.
        strangeness: how far the image is from ordinary driving, the mean of its pixels' distances, if drives are
            watched; else None.

    The arrays are the caller's: the engine keeps no hold of them. From a GPU they come in page-locked memory, which
    goes back to a pool when the last reference is dropped; copy what is to be kept for long.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    semantic: NDArray[np.uint8] | None = None
    strangeness: float | None = None


class Explanation(NamedTuple):
    """What the frozen network takes an image for, whatever the score.

    Attributes:
        classes: (H, W) uint8, the semantic class of each pixel.
        statistics: (4, H, W) float32: max_prob, entropy, energy and msp of the semantic map.
    """

    classes: NDArray[np.uint8]
    statistics: NDArray[np.float32]
