"""Random fields on the plane of the road, seen by a camera above it."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.scenes.drawing.canvas import PAVEMENT, ROAD, TERRAIN
from eomt_ext_core.scenes.drawing.textures import noise_tile
from eomt_ext_training.data.pasting import horizon_row

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Rng = np.random.Generator

GROUND_CLASSES = (ROAD, PAVEMENT, TERRAIN)


def among(semantic: Image, classes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels of some classes, (h, w) bool; a table is ten times as fast as ``numpy.isin``."""
    table = np.zeros(256, np.bool_)
    table[list(classes)] = True
    return np.asarray(table[semantic], np.bool_)


def horizon_of(semantic: Image) -> float:
    """Estimate the row of the horizon from the first row of ground."""
    return horizon_row(among(semantic, GROUND_CLASSES))


@cache
def _offsets(size_hw: tuple[int, int]) -> tuple[Field, Field]:
    rows = np.arange(size_hw[0], dtype=np.float32)[:, None]
    columns = np.arange(size_hw[1], dtype=np.float32)[None, :] - np.float32(size_hw[1] / 2)
    return rows, columns


def laid_flat(tile: Image, size_hw: tuple[int, int], horizon: float, px_per_height: float, rng: Rng) -> Image:
    """Lay a texture on the ground.

    Over flat ground the row v shows what is at a depth of focal length / (v − horizon) camera heights.

    Args:
        tile: (n, n) or (n, n, 3) uint8, repeated without end.
        size_hw: size of the view.
        horizon: its row; above it the texture is mirrored.
        px_per_height: texture pixels that one camera height is long.
        rng: random numbers: place and direction.

    Returns:
        (h, w) or (h, w, 3) uint8.
    """
    rows, columns = _offsets(size_hw)
    below = np.maximum(np.abs(rows - np.float32(horizon)), 1.0)
    depth = np.float32(px_per_height * size_hw[1]) / below
    x = columns * (np.float32(px_per_height) / below)
    turn, (shift_x, shift_y) = rng.uniform(0, 2 * np.pi), rng.uniform(0, tile.shape[0], 2)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = cos * x + sin * depth + np.float32(shift_x), cos * depth - sin * x + np.float32(shift_y)
    side = np.float32(tile.shape[0])
    np.mod(u, side, out=u)
    np.mod(v, side, out=v)
    return np.asarray(cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.uint8)


def fading(size_hw: tuple[int, int], horizon: float, softness: float = 0.06) -> Field:
    """Return a weight (h, 1) from 0 at the horizon to 1 well below it, as fine texture is not visible at a distance."""
    rows, _ = _offsets(size_hw)
    return np.asarray(np.clip(np.abs(rows - np.float32(horizon)) / np.float32(softness * size_hw[0] * 4), 0.0, 1.0))


def patches(rng: Rng, size_hw: tuple[int, int], horizon: float, covered: float, soft: float) -> Field:
    """Random patches on the ground, such as shadows of leaves or new asphalt.

    Args:
        rng: random numbers.
        size_hw: size of the view.
        horizon: its row.
        covered: fraction of the ground that they cover, about.
        soft: width of their edges in levels of 255 of the noise that they are cut from.

    Returns:
        (h, w) from 0 to 1.
    """
    kind = ("cloud", "cloud", "leaf")[int(rng.integers(3))]
    noise = laid_flat(noise_tile(kind), size_hw, horizon, float(np.exp(rng.uniform(np.log(12), np.log(160)))), rng)
    level = float(np.quantile(noise_tile(kind)[::8, ::8], 1.0 - covered))
    edge = np.float32(max(soft, 1.0))
    return np.asarray(np.clip((noise.astype(np.float32) - np.float32(level)) / edge + 0.5, 0.0, 1.0))
