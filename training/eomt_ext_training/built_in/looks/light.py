"""Light effects missing in the drawn world: shadows of things out of view, sun patches, glare, haze and wet roads."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_training.built_in.looks.ground import GROUND_CLASSES, among, horizon_of, patches

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Lighting:
    """Probabilities of what light does to a scene."""

    foliage_shadow: float = option(0.35, "shadows of trees, with patches of sun", minimum=0.0, maximum=1.0)
    wall_shadow: float = option(0.25, "shadows with straight edges", minimum=0.0, maximum=1.0)
    wet: float = option(0.12, "a wet road that mirrors", minimum=0.0, maximum=1.0)
    glare: float = option(0.12, "a low sun in the lens", minimum=0.0, maximum=1.0)
    haze: float = option(0.12, "haze", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def relit(image_rgb: Image, semantic: Image, lighting: Lighting, rng: Rng) -> Image:
    """Change the light in a scene; things stay what they are, obstacles too.

    Args:
        image_rgb: (h, w, 3).
        semantic: (h, w) class ids.
        lighting: probabilities.
        rng: random numbers.

    Returns:
        the changed image.
    """
    size_hw = (semantic.shape[0], semantic.shape[1])
    horizon = horizon_of(semantic)
    ground = among(semantic, GROUND_CLASSES)
    light = np.ones(size_hw, np.float32)
    if rng.random() < lighting.foliage_shadow:
        cover = patches(rng, size_hw, horizon, float(rng.uniform(0.15, 0.85)), float(rng.uniform(2, 40)))
        if rng.random() < 0.5:
            cover *= _band(rng, size_hw, horizon)
        light *= 1 - np.float32(rng.uniform(0.25, 0.75)) * cover
    if rng.random() < lighting.wall_shadow:
        light *= 1 - np.float32(rng.uniform(0.25, 0.75)) * _straight(rng, size_hw, horizon)
    shaded = bool(light.min() < 1.0)
    result = image_rgb.astype(np.float32)
    if rng.random() < lighting.wet:
        result = _mirrored(result, ground, horizon, float(rng.uniform(0.1, 0.5)))
    if shaded:
        # what stands on the ground is shaded less evenly: only its lower part, and softly
        soft = np.asarray(cv2.GaussianBlur(light, (0, 0), 6), np.float32)
        standing = 1 - np.float32(rng.uniform(0.0, 0.5)) * (1 - soft)
        standing[: max(0, int(horizon))] = 1.0
        result *= np.where(ground, light, standing)[..., None]
    if rng.random() < lighting.glare:
        result += _glare(rng, size_hw, horizon)
    if rng.random() < lighting.haze:
        far = np.exp(-np.abs(np.arange(size_hw[0], dtype=np.float32) - horizon) / (size_hw[0] * rng.uniform(0.05, 0.3)))
        veil = (far * rng.uniform(0.1, 0.7)).astype(np.float32)[:, None, None]
        result = result * (1 - veil) + np.float32(rng.uniform(120, 250)) * veil
    return np.asarray(np.clip(result, 0, 255), np.uint8)


def _band(rng: Rng, size_hw: tuple[int, int], horizon: float) -> Field:
    """Return a weight (h, 1) for the rows between two distances."""
    rows = np.arange(size_hw[0], dtype=np.float32)[:, None]
    depth = size_hw[0] / np.maximum(rows - np.float32(horizon), 1.0)
    first = rng.uniform(1, 6)
    return np.asarray((depth > first) & (depth < first * rng.uniform(1.3, 6)), np.float32)


def _straight(rng: Rng, size_hw: tuple[int, int], horizon: float) -> Field:
    """Shadows of walls and poles: bands that run to a point on the horizon, or across."""
    height, width = size_hw
    cover = np.zeros(size_hw, np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            vanishing = rng.normal(0.5, 0.5) * width
            left, right = np.sort(rng.uniform(-0.5, 1.5, 2)) * width
            if rng.random() < 0.4:
                right = left + rng.uniform(2, 12)
            corners = [(vanishing, horizon), (left, height), (right, height)]
        else:
            first = horizon + (height - horizon) * rng.random() ** 2
            tilt, thick = rng.normal(0, 0.15, 2) * height, (first - horizon) * rng.uniform(0.05, 0.8)
            corners = [(0, first), (width, first + tilt[0]), (width, first + tilt[0] + thick), (0, first + thick)]
        cv2.fillPoly(cover, [np.rint(np.asarray(corners) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if rng.random() < 0.6:
        cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), float(rng.uniform(0.5, 5))), np.uint8)
    return np.asarray(cover / np.float32(255), np.float32)


def _mirrored(image: Field, ground: NDArray[np.bool_], horizon: float, strength: float) -> Field:
    height = image.shape[0]
    first = int(np.clip(horizon, 1, height - 2))
    rows = np.clip(2 * first - np.arange(height), 0, first)
    mirror = np.asarray(cv2.blur(image[rows], (5, 17)), np.float32)
    wet = image * np.float32(1 - strength) + mirror * np.float32(strength)
    return np.asarray(np.where(ground[..., None], wet, image), np.float32)


def _glare(rng: Rng, size_hw: tuple[int, int], horizon: float) -> Field:
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    centre = (rng.normal(0.7, 0.5) * horizon, rng.uniform(-0.1, 1.1) * size_hw[1])
    distance = np.hypot(rows - centre[0], columns - centre[1]).astype(np.float32)
    bright = np.exp(-distance / np.float32(size_hw[1] * rng.uniform(0.03, 0.3))) * np.float32(rng.uniform(60, 220))
    return np.asarray(bright[..., None] * np.asarray([1.0, 0.96, rng.uniform(0.75, 1.0)]), np.float32)
