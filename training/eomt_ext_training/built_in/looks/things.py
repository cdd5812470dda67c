"""Unknown things in a scene, from a few pixels to most of the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_core.scenes.drawing.canvas import ROAD
from eomt_ext_training.built_in.looks.ground import GROUND_CLASSES, among, horizon_of
from eomt_ext_training.built_in.looks.silhouettes import silhouette
from eomt_ext_training.built_in.looks.textures import TextureBank
from eomt_ext_training.data.sample import OUTLIER, VOID

Image = NDArray[np.uint8]
Rng = np.random.Generator

_SOLID, _TOUCHED = 0.6, 0.08  # coverage from which a pixel is the thing's, and from which it is not the scene's alone
_CAMERA_HEIGHT_M = 1.4
_LEAST_PX = 4


@dataclass(frozen=True)
class Things:
    """Number and sizes of the things.

    On the road a thing's height follows from its place, as if it had been seen over flat ground; the others are of any
    size anywhere on the ground.
    """

    probability: float = option(0.7, "fraction of the windows that get any", minimum=0.0, maximum=1.0)
    most: int = option(4, "most of them in a window", minimum=1, maximum=16)
    lowest_m: float = option(0.12, "height of the lowest", minimum=0.01, maximum=10.0)
    highest_m: float = option(2.6, "height of the highest", minimum=0.01, maximum=10.0)
    anywhere: float = option(0.35, "fraction that is of any size anywhere", minimum=0.0, maximum=1.0)
    borrowed: float = option(0.2, "fraction covered with a part of another scene", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def with_things(
    image_rgb: Image, semantic: Image, other: Callable[[], Image], bank: TextureBank, things: Things, rng: Rng
) -> tuple[Image, Image]:
    """Stand unknown things into a scene.

    Args:
        image_rgb: (h, w, 3).
        semantic: (h, w) class ids.
        other: gives another scene of the same size, parts of which may cover a thing.
        bank: source of other textures.
        things: how many and how large.
        rng: random numbers.

    Returns:
        the changed image, and class ids in which the things are outliers with a void edge.
    """
    ground = among(semantic, GROUND_CLASSES)
    if rng.random() >= things.probability or not ground.any():
        return image_rgb, semantic
    image_rgb, semantic = image_rgb.copy(), semantic.copy()
    horizon = horizon_of(semantic)
    road = np.flatnonzero(semantic == ROAD)
    everywhere = np.flatnonzero(ground)
    places = []
    for _ in range(1 + int(rng.integers(things.most) * rng.random() + 0.5)):
        anywhere = rng.random() < things.anywhere or not road.size
        pool = everywhere if anywhere else road
        row, column = divmod(int(pool[rng.integers(pool.size)]), semantic.shape[1])
        if anywhere:
            height = float(np.exp(rng.uniform(np.log(_LEAST_PX), np.log(0.95 * semantic.shape[0]))))
        else:
            # draw distances, not pixels, which would favour near places
            if rng.random() < 0.5:
                row = min(row, int(horizon + (row - horizon) * rng.random()) + 2)
            metres = np.exp(rng.uniform(np.log(things.lowest_m), np.log(things.highest_m)))
            height = float(metres * max(row - horizon, 2.0) / _CAMERA_HEIGHT_M)
        places.append((row, column, min(height, 0.95 * semantic.shape[0])))
    for row, column, height in sorted(places):
        shape = silhouette(rng)
        scale = max(height, _LEAST_PX) / shape.shape[0]
        size = (max(_LEAST_PX, round(shape.shape[1] * scale)), max(_LEAST_PX, round(height)))
        shape = np.asarray(
            cv2.resize(shape, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
        )
        skin = _skin(shape, other, bank, things, rng)
        _stand(image_rgb, semantic, row, column, skin, shape, rng)
    return image_rgb, semantic


def _skin(shape: Image, other: Callable[[], Image], bank: TextureBank, things: Things, rng: Rng) -> NDArray[np.float32]:
    """Make the surface of a thing, (h, w, 3), shaded as if it were round."""
    height, width = shape.shape
    skin = bank.patch(rng, (height, width)).astype(np.float32)
    if rng.random() < things.borrowed:
        other_rgb = other()
        rows, columns = min(height, other_rgb.shape[0]), min(width, other_rgb.shape[1])
        top = int(rng.integers(other_rgb.shape[0] - rows + 1))
        left = int(rng.integers(other_rgb.shape[1] - columns + 1))
        skin[:rows, :columns] = other_rgb[top : top + rows, left : left + columns]
    elif rng.random() < 0.35:  # of two parts
        second = bank.patch(rng, (height, width)).astype(np.float32)
        slope = np.linspace(-1, 1, height)[:, None] * rng.normal() + np.linspace(-1, 1, width)[None, :] * rng.normal()
        skin = np.where((slope > rng.normal(0, 0.3))[..., None], second, skin)
    if rng.random() < 0.4:  # most things have less contrast than textures do
        mean = skin.mean((0, 1))
        skin = mean + (skin - mean) * np.float32(rng.uniform(0.05, 0.7))
    radius = max(1.0, 0.08 * max(shape.shape))
    bulge = np.asarray(cv2.GaussianBlur(shape, (0, 0), radius), np.float32) / 255
    slope_y, slope_x = np.gradient(bulge) if min(shape.shape) > 1 else (np.zeros_like(bulge), np.zeros_like(bulge))
    light = 1 + rng.uniform(0, 1.5) * radius * (slope_y * rng.uniform(0.2, 1) + slope_x * rng.uniform(-1, 1))
    light *= np.linspace(1.08, rng.uniform(0.5, 0.95), height)[:, None]
    return np.asarray(skin * np.clip(light, 0.25, 1.7)[..., None], np.float32)


def _stand(
    image_rgb: Image, semantic: Image, row: int, column: int, skin: NDArray[np.float32], shape: Image, rng: Rng
) -> None:
    """Paste a thing in place, its foot at (row, column)."""
    height, width = shape.shape
    blur = float(rng.uniform(0.2, 1.0)) if min(height, width) > 6 else 0.35
    margin = 3
    alpha = cv2.copyMakeBorder(shape, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    coverage = np.asarray(cv2.GaussianBlur(alpha, (0, 0), blur), np.float32) / 255
    colour = np.asarray(cv2.copyMakeBorder(skin, margin, margin, margin, margin, cv2.BORDER_REPLICATE), np.float32)
    top, left = row + 1 - height - margin, column - width // 2 - margin
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(semantic.shape[0], top + coverage.shape[0]), min(semantic.shape[1], left + coverage.shape[1])
    if y1 <= y0 or x1 <= x0:
        return
    _contact_shadow(image_rgb, row, column, width, rng)
    here, there = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)), (slice(y0, y1), slice(x0, x1))
    coverage, colour = coverage[here], colour[here]
    under = image_rgb[there].astype(np.float32)
    # light falls on all things alike: dark scenes hold dark things
    around = float(image_rgb[max(0, row - 30) : row + 10].mean())
    likeness = rng.uniform(0.0, 0.9)
    colour = colour * np.float32(np.clip(around / max(float(colour.mean()), 8.0), 0.25, 3.0) ** likeness)
    image_rgb[there] = np.clip(under + (colour - under) * coverage[..., None], 0, 255)
    touched: Image = np.zeros(semantic.shape, np.uint8)
    touched[there] = coverage > _TOUCHED
    semantic[cv2.dilate(touched, np.ones((3, 3), np.uint8)) > 0] = VOID
    semantic[there][coverage >= _SOLID] = OUTLIER


def _contact_shadow(image_rgb: Image, row: int, column: int, width: int, rng: Rng) -> None:
    """Darken the ground under a thing."""
    if rng.random() < 0.2:
        return
    half, depth = 0.6 * width, max(1.0, 0.12 * width * rng.uniform(0.5, 1.5))
    y0, y1 = max(0, int(row - 2 * depth)), min(image_rgb.shape[0], int(row + 2 * depth) + 2)
    x0, x1 = max(0, int(column - 2 * half)), min(image_rgb.shape[1], int(column + 2 * half) + 2)
    if y1 <= y0 or x1 <= x0:
        return
    y, x = np.ogrid[y0:y1, x0:x1]
    dark = rng.uniform(0.2, 0.75) * np.exp(-(((x - column) / half) ** 4) - ((y - row) / depth) ** 2)
    image_rgb[y0:y1, x0:x1] = (image_rgb[y0:y1, x0:x1] * (1 - dark[..., None])).astype(np.uint8)
