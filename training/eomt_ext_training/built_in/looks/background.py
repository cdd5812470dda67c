"""Known background behind and beside the road: hedges, bushes, walls and clutter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_core.scenes.drawing.canvas import BUILDING, FENCE, PAVEMENT, POLE, SKY, TERRAIN, VEGETATION
from eomt_ext_training.built_in.looks.ground import among, horizon_of
from eomt_ext_training.built_in.looks.silhouettes import silhouette
from eomt_ext_training.built_in.looks.textures import TextureBank

Image = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Background:
    """Probabilities of changes of the background."""

    hedges: float = option(
        0.35, "fraction of the windows with hedges or walls beside the road", minimum=0.0, maximum=1.0
    )
    clutter: float = option(0.5, "fraction of the windows with clutter behind", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def with_hedges(
    image_rgb: Image, semantic: Image, bank: TextureBank, background: Background, rng: Rng
) -> tuple[Image, Image]:
    """Grow hedges, bushes or walls beside the road.

    Args:
        image_rgb: (h, w, 3).
        semantic: (h, w) class ids; the road, and what moves or is none of the classes, stays in front.
        bank: source of their surfaces.
        background: how often.
        rng: random numbers.

    Returns:
        the changed image, and class ids in which they are vegetation or buildings.
    """
    if rng.random() >= background.hedges:
        return image_rgb, semantic
    height, width = semantic.shape
    horizon = horizon_of(semantic)
    cover = np.zeros((height, width), np.uint8)
    for side in (0, 1):
        if rng.random() < 0.35:
            continue
        # from the far end near the vanishing point to the near end beyond the window's border
        far, near = rng.uniform(0.1, 0.45), rng.uniform(-0.3, 0.15)
        top_far, top_near = rng.uniform(0.02, 0.3), rng.uniform(0.2, 1.2)
        along = np.linspace(0, 1, 24)
        x = (far + (near - far) * along) * width
        foot = horizon + (0.02 + along * rng.uniform(0.1, 0.5)) * height
        top = horizon - (top_far + (top_near - top_far) * along) * horizon + rng.normal(0, 0.02 * height, 24)
        near_end = [(-9, foot[-1]), (-9, top[-1])]
        outline = np.concatenate([np.stack([x, foot], -1), near_end, np.stack([x, top], -1)[::-1]])
        if side:
            outline[:, 0] = width - outline[:, 0]
        cv2.fillPoly(cover, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    plant = rng.random() < 0.75
    if plant:  # leaves make the edge rough
        rough = cv2.resize(rng.standard_normal((height // 3, width // 3)).astype(np.float32), (width, height))
        soft = np.asarray(cv2.GaussianBlur(cover, (0, 0), 4), np.float32)
        cover = (np.clip((soft + 45 * rough - 128) * 4 + 128, 0, 255) * (soft > 8)).astype(np.uint8)
    # only over what grows or stands beside the road, or far away
    over = among(semantic, (VEGETATION, TERRAIN, BUILDING, SKY, PAVEMENT, POLE))
    weight = (cover.astype(np.float32) / 255) * over
    texture = bank.patch(rng, (height, width), "foliage" if plant else "any").astype(np.float32)
    below = image_rgb.mean()
    texture *= np.float32(np.clip(below / max(float(texture.mean()), 8.0), 0.4, 2.0))
    image = image_rgb + (texture - image_rgb) * weight[..., None]
    semantic = semantic.copy()
    semantic[weight > 0.5] = VEGETATION if plant else BUILDING
    return np.clip(image, 0, 255).astype(np.uint8), semantic


def with_clutter(image_rgb: Image, semantic: Image, bank: TextureBank, background: Background, rng: Rng) -> Image:
    """Lay textured shapes over what is behind and beside the road: the real background is never as tidy as a drawn one.

    What is there keeps its class: only a thing that stands on the ground is unknown.

    Args:
        image_rgb: (h, w, 3).
        semantic: (h, w) class ids.
        bank: source of surfaces.
        background: how often.
        rng: random numbers.

    Returns:
        the changed image.
    """
    behind = among(semantic, (VEGETATION, BUILDING, FENCE, SKY))
    if rng.random() >= background.clutter or not behind.any():
        return image_rgb
    height, width = semantic.shape
    image: Image = image_rgb.copy()
    places = np.flatnonzero(behind)
    for _ in range(int(rng.integers(1, 10))):
        row, column = divmod(int(places[rng.integers(places.size)]), width)
        shape = silhouette(rng)
        longest = float(np.exp(rng.uniform(np.log(4), np.log(0.3 * height))))
        size = tuple(max(2, round(side * longest / max(shape.shape))) for side in (shape.shape[1], shape.shape[0]))
        cover = np.asarray(cv2.resize(shape, (size[0], size[1]), interpolation=cv2.INTER_AREA), np.float32) / 255
        rows, columns = slice(row, min(height, row + size[1])), slice(column, min(width, column + size[0]))
        cover = cover[: rows.stop - row, : columns.stop - column] * behind[rows, columns]
        under = image[rows, columns].astype(np.float32)
        texture = bank.patch(rng, (under.shape[0], under.shape[1])).astype(np.float32)
        texture *= np.float32(
            np.clip(under.mean() / max(float(texture.mean()), 8.0), 0.3, 3.0) ** rng.uniform(0.3, 1.0)
        )
        opacity = cover[..., None] * np.float32(rng.uniform(0.3, 1.0))
        image[rows, columns] = np.clip(under + (texture - under) * opacity, 0, 255)
    return image
