"""Signs that one image shows by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.health.config import HealthConfig
from eomt_ext_core.health.sample import Sample

_WHITE = 250.0
_BRIGHT_FRACTION = 0.005  # of the image that may be brighter than black: hot pixels, a lamp
_LEAST_FINE, _LEAST_LARGE = 1.0, 15.0  # squared levels
_DEAD_RANGE, _LIVE_RANGE = 2.0, 20.0
_LEAST_CLASS_FRACTION = 0.03
_APART = 0.2


def signs_of(sample: Sample, config: HealthConfig) -> dict[str, bool]:
    """Which faults an image shows by itself."""
    return {
        "black": float((sample.tiles > config.black_level).mean()) < _BRIGHT_FRACTION,
        "over_exposed": float((sample.tiles >= _WHITE).mean()) >= config.white_fraction,
        "no_detail": _lacks_detail(sample, config.least_sharpness),
        "dead_channel": _has_dead_channel(sample.colours),
    }


def _lacks_detail(sample: Sample, least_sharpness: float) -> bool:
    fine, large = sample.fine_contrast, sample.large_contrast
    return fine < _LEAST_FINE or large < _LEAST_LARGE or fine < least_sharpness**2 * large


def _has_dead_channel(colours: NDArray[np.float32]) -> bool:
    """Whether a channel is the same everywhere, while another is not."""
    channels = np.sort(colours.reshape(-1, 3), axis=0)
    edge = len(channels) // 20
    ranges = channels[-edge - 1] - channels[edge]
    return bool(ranges.min() <= _DEAD_RANGE and ranges.max() >= _LIVE_RANGE)


def is_upside_down(semantic: NDArray[np.uint8], class_names: Sequence[str]) -> bool | None:
    """Whether the road is above the sky; None if the image does not show enough of both to say.

    Args:
        semantic: (H, W) uint8, ids of the model's semantic classes.
        class_names: of the classes, in the order of their ids.
    """
    names = [name.lower() for name in class_names]
    if "sky" not in names or "road" not in names:
        return None
    every = max(1, semantic.shape[0] // 64), max(1, semantic.shape[1] // 96)
    small = semantic[:: every[0], :: every[1]]
    means = []
    for name in ("sky", "road"):
        rows = (small == names.index(name)).sum(axis=1)
        if rows.sum() < _LEAST_CLASS_FRACTION * small.size:
            return None
        means.append(float(np.average(np.arange(len(rows)) / len(rows), weights=rows)))
    sky, road = means
    return sky - road > _APART
