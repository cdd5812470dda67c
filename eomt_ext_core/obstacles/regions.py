"""Where obstacles may be: inside a polygon, or in touch with what the model predicts to be drivable."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import ConfigError

# The drivable area is looked at in blocks of this side: the network predicts its masks at a quarter of the crop.
BLOCK_PX = 4


def check_obstacle_config(config: ObstacleConfig, threshold: float, class_names: Sequence[str]) -> None:
    """Hold a configuration against what it meets only at run time: the threshold in force and the model's classes.

    Raises:
        ConfigError: if ``threshold_low`` is above the threshold, the region is a polygon and there is none, or the
            drivable classes are not the model's.
    """
    if config.threshold_low > threshold:
        raise ConfigError(f"threshold_low must be at most the threshold {threshold:g}, got {config.threshold_low:g}")
    if config.region == "polygon" and not config.polygon:
        raise ConfigError(
            "region polygon needs a polygon, got none: set x0, y0, x1, y1, … as fractions of width and height"
        )
    if config.region == "drivable":
        drivable_ids(config, class_names)


def drivable_ids(config: ObstacleConfig, class_names: Sequence[str]) -> tuple[int, ...]:
    """Ids of the drivable classes among those of a model.

    Raises:
        ConfigError: if none is named, or one is neither a name nor an id of the model's.

    >>> drivable_ids(ObstacleConfig(drivable_classes=("Road", "3")), ["road", "building", "sky", "lane marking"])
    (0, 3)
    """
    if not config.drivable_classes:
        raise ConfigError("region drivable needs drivable_classes, got none")
    ids_of: dict[str, list[int]] = {str(index): [index] for index in range(len(class_names) or 256)}
    for index, name in enumerate(class_names):
        ids_of.setdefault(name.lower(), []).append(index)
    unknown = [name for name in config.drivable_classes if name.lower() not in ids_of]
    if unknown and not class_names:
        raise ConfigError(
            f"region drivable needs the model's class names to know what {unknown[0]!r} is, and its checkpoint holds "
            "none: give class ids as drivable_classes, or choose the region polygon or everywhere"
        )
    if unknown:
        raise ConfigError(
            f"drivable_classes must be classes of the model ({', '.join(class_names)}), got {unknown[0]!r}: give "
            "others, or choose the region polygon or everywhere"
        )
    return tuple(index for name in config.drivable_classes for index in ids_of[name.lower()])


@functools.lru_cache(maxsize=32)
def polygon_mask(polygon: tuple[float, ...], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw a polygon given in fractions of width and height: (H, W) bool, read-only.

    Pixels that the outline touches are inside; where the outline crosses itself, the even-odd rule holds.
    """
    height, width = size_hw
    corners = np.asarray(polygon).reshape(-1, 2) * (width, height) - 0.5  # OpenCV's whole numbers are pixels' centres
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(mask, [np.rint(corners * 2**16).astype(np.int32)], 1, shift=16)
    mask.setflags(write=False)
    return mask.view(np.bool_)


def blocks_near_drivable(semantic: NDArray[np.uint8], ids: Sequence[int], reach_px: float) -> NDArray[np.bool_]:
    """Mark the blocks of ``BLOCK_PX`` in reach of the drivable area and of the gaps that it encloses.

    A block is drivable if one of its pixels is. Drivable blocks enclose a gap together with their 8 neighbours and
    with the lower edge of the image, before which the vehicle stands. The reach is a square of blocks, one at least to
    each side.

    Args:
        semantic: (H, W) uint8 class ids.
        ids: of the drivable classes.
        reach_px: in pixels.

    Returns:
        (⌈H / BLOCK_PX⌉, ⌈W / BLOCK_PX⌉) bool.
    """
    is_drivable = np.zeros(256, np.uint8)
    is_drivable[list(ids)] = 255
    height, width = semantic.shape
    pixels = cv2.LUT(semantic, is_drivable)
    if height % BLOCK_PX or width % BLOCK_PX:
        pixels = cv2.copyMakeBorder(pixels, 0, -height % BLOCK_PX, 0, -width % BLOCK_PX, cv2.BORDER_CONSTANT, value=0)
    blocks_wh = pixels.shape[1] // BLOCK_PX, pixels.shape[0] // BLOCK_PX
    # The mean of a block is above 0 if any of its pixels is drivable.
    drivable = (cv2.resize(pixels, blocks_wh, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    ground = cv2.copyMakeBorder(drivable, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    ground[-1, 1:-1] = 1
    cv2.floodFill(ground, None, (0, 0), 2)
    reach = max(1, round(reach_px / BLOCK_PX))
    filled = (ground[1:-1, 1:-1] != 2).astype(np.uint8)
    return np.asarray(cv2.dilate(filled, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)), np.uint8).view(np.bool_)
