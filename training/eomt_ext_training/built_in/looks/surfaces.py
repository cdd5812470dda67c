"""Other surfaces for known classes: gravel, patched asphalt, painted walls, wild hedges. The classes do not change."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_core.scenes.drawing.canvas import (
    BUILDING,
    CAR,
    FENCE,
    PAVEMENT,
    PEDESTRIAN,
    ROAD,
    SKY,
    TERRAIN,
    VEGETATION,
)
from eomt_ext_core.scenes.drawing.textures import any_colour
from eomt_ext_training.built_in.looks.ground import GROUND_CLASSES, fading, horizon_of, laid_flat, patches
from eomt_ext_training.built_in.looks.textures import TextureBank

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Rng = np.random.Generator

# Things that stand, and how strongly a texture may cover them at most: a car must stay a car.
_STANDING = {VEGETATION: 1.0, BUILDING: 0.8, FENCE: 0.8, CAR: 0.45, PEDESTRIAN: 0.6, SKY: 0.4}


@dataclass(frozen=True)
class Surfaces:
    """Probabilities and strengths of changes of surfaces."""

    ground: float = option(0.6, "probability that a kind of ground gets another texture", minimum=0.0, maximum=1.0)
    standing: float = option(0.4, "probability that a kind of standing thing does", minimum=0.0, maximum=1.0)
    patches: float = option(0.5, "probability of patches of another tone on the ground", minimum=0.0, maximum=1.0)
    tone: float = option(0.3, "probability that a kind of ground gets another colour", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def resurfaced(image_rgb: Image, semantic: Image, bank: TextureBank, surfaces: Surfaces, rng: Rng) -> Image:
    """Change the surfaces of known things.

    Args:
        image_rgb: (h, w, 3).
        semantic: (h, w) class ids; what is none of the classes keeps its surface.
        bank: source of textures.
        surfaces: how often and how strongly.
        rng: random numbers.

    Returns:
        the changed image.
    """
    size_hw = (semantic.shape[0], semantic.shape[1])
    horizon = horizon_of(semantic)
    near = fading(size_hw, horizon)
    canvas = _Canvas(image_rgb)
    for kind in GROUND_CLASSES:
        mask = semantic == kind
        if not mask.any():
            continue
        if rng.random() < surfaces.tone:
            canvas.tone(mask, rng, 0.8 if kind == TERRAIN else 0.25)
        if rng.random() < surfaces.ground:
            px_per_height = float(np.exp(rng.uniform(np.log(25), np.log(250))))
            texture = laid_flat(bank.tile(rng), size_hw, horizon, px_per_height, rng)
            canvas.cover(mask * near, texture, rng, float(rng.uniform(0.1, 0.9 if kind == TERRAIN else 0.55)))
        if kind in (ROAD, PAVEMENT) and rng.random() < surfaces.patches:
            patched = patches(rng, size_hw, horizon, float(rng.uniform(0.02, 0.5)), float(rng.uniform(1, 25)))
            canvas.gain *= 1 + np.float32(np.exp(rng.normal(0, 0.25)) - 1) * (patched * mask)
    for kind, strongest in _STANDING.items():
        if rng.random() >= surfaces.standing:
            continue
        mask = semantic == kind
        if mask.any():
            family = "foliage" if kind == VEGETATION and rng.random() < 0.7 else "any"
            texture = bank.patch(rng, size_hw, family)
            canvas.cover(mask.astype(np.float32), texture, rng, strongest * float(rng.uniform(0.2, 1.0)))
    return canvas.finished()


class _Canvas:
    """An image with a gain for each pixel, applied at the end."""

    def __init__(self, image_rgb: Image) -> None:
        self.image = image_rgb
        self.gain = np.ones(image_rgb.shape[:2], np.float32)

    def tone(self, mask: NDArray[np.bool_], rng: Rng, vividness: float) -> None:
        """Move the mean colour of a region towards another one."""
        ink = np.asarray(any_colour(rng), np.float32)
        ink = ink.mean() + (ink - ink.mean()) * np.float32(vividness)
        mean = np.asarray(cv2.mean(self.image, mask.astype(np.uint8))[:3], np.float32)
        gains = np.clip(ink / np.maximum(mean, 8.0), 0.5, 2.0) ** np.float32(rng.uniform(0.2, 1.0))
        table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
        self.image = np.where(mask[..., None], cv2.LUT(self.image, table[None]), self.image)

    def cover(self, weight: Field, texture: Image, rng: Rng, strength: float) -> None:
        """Lay a texture over a region: its light and dark alone, or its colours at the region's mean brightness."""
        if rng.random() < 0.35:
            region = float(np.mean(cv2.mean(self.image, (weight > 0).astype(np.uint8))[:3]))
            bright = region / max(float(texture.mean()), 8.0)
            covered = cv2.convertScaleAbs(texture, alpha=bright)
            opacity = weight * np.float32(strength)
            self.image = np.asarray(
                cv2.blendLinear(covered, np.ascontiguousarray(self.image), opacity, 1 - opacity), np.uint8
            )
        else:
            light = np.asarray(cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY), np.float32)
            modulation = np.clip(1 + strength * (light / max(float(light.mean()), 8.0) - 1), 0.15, 2.5)
            self.gain *= 1 + (modulation - 1) * weight

    def finished(self) -> Image:
        """Return the image with its gain applied."""
        return np.asarray(np.clip(self.image * self.gain[..., None], 0, 255), np.uint8)
