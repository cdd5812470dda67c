"""Pasting of things into a road image so that they seem to stand there.

The base of a thing is on an image row; on flat ground, row ``v`` is at a depth at which one metre is
``(v − horizon) / camera height`` pixels. Colours are drawn towards those of the scene (Reinhard et al. 2001, in Lab).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.scenes import Sprite
from eomt_ext_training.data.sample import ANOMALOUS, VOID

_SOLID, _TOUCHED = 0.8, 0.08  # coverage from which a pixel is the thing's, and from which it is not the scene's alone
_FIRST_HORIZON, _LAST_HORIZON, _MIDDLE = 0.25, 0.65, 0.45  # range of the horizon, as fractions of the height
_LEAST_GROUND = 0.02  # fraction of a row that must be ground for the ground to begin there
_LEAST_FOOTING = 0.7  # fraction of a thing's base that must be ground
_LARGEST = 0.7  # largest size of a thing, as a fraction of the image's sides
_TRIES = 20


@dataclass(frozen=True)
class Pasting:
    """Settings of pasting.

    Args:
        probability: fraction of the images with things.
        max_objects: most things in an image; the number is uniform from 1 on.
        camera_height_m: of the camera above the ground; a lower one makes things larger.
        min_px: a thing is never placed so far away that its longer side has fewer pixels.
        colour_transfer: how far colours are drawn towards the scene's, 0 not at all, 1 wholly; varied by a half.
        blur_px: standard deviation of the blur of a thing and its edges; varied by a half.
        void_ring_px: width of the ring around a thing that is labelled void.
        shadow: darkness of the shadow under a thing.
        noise: standard deviation of sensor noise on a thing, in levels of 255.
    """

    probability: float = 0.9
    max_objects: int = 4
    camera_height_m: float = 1.4
    min_px: float = 8.0
    colour_transfer: float = 0.4
    blur_px: float = 0.6
    void_ring_px: int = 1
    shadow: float = 0.5
    noise: float = 2.0

    def __post_init__(self) -> None:
        for name, low, high in (("probability", 0, 1), ("colour_transfer", 0, 1), ("shadow", 0, 1), ("blur_px", 0, 9)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must lie in [{low}, {high}], got {getattr(self, name)}")
        for name, low in (("max_objects", 1), ("void_ring_px", 0), ("noise", 0)):
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("camera_height_m", "min_px"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


class Footing(NamedTuple):
    """The place of a thing: the pixel under the middle of its base, and the pixels per metre there."""

    row: int
    column: int
    px_per_m: float


class SceneColours(NamedTuple):
    """Mean and standard deviation of the known pixels of a scene in 8-bit Lab, each (3,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def ground_mask(semantic: NDArray[np.uint8], ground_classes: Sequence[int]) -> NDArray[np.bool_]:
    """Return the ground pixels of the labels, (H, W) bool."""
    return np.isin(semantic, np.asarray(ground_classes, np.uint8))


def horizon_row(ground: NDArray[np.bool_]) -> float:
    """Estimate the row of the horizon: a little above the first row with ground, or a usual row without ground."""
    height, width = ground.shape
    first = np.flatnonzero(ground.sum(axis=1) >= max(1, _LEAST_GROUND * width))
    fraction = _MIDDLE if not first.size else int(first[0]) / height - 0.01
    return float(height * min(max(fraction, _FIRST_HORIZON), _LAST_HORIZON))


def px_per_m_at(row: float, horizon: float, camera_height_m: float) -> float:
    """Compute the pixels per metre on the ground at a row: proportional to the distance from the horizon.

    >>> px_per_m_at(row=350.0, horizon=210.0, camera_height_m=1.4)
    100.0
    """
    return max(0.0, row - horizon) / camera_height_m


def find_footing(
    ground: NDArray[np.bool_], horizon: float, sprite: Sprite, pasting: Pasting, rng: np.random.Generator
) -> Footing | None:
    """Draw a place on the ground, near and far ones alike (uniform in the logarithm of the distance).

    Args:
        ground: (h, w) bool; without any, the lower part of the image stands in.
        horizon: row of the horizon, which may lie outside.
        sprite: the thing: most of its base must be on ground, and it must be neither too small nor too large there.
        pasting: camera height and least size.
        rng: random numbers.

    Returns:
        the place, or None if there is none.
    """
    height, width = ground.shape
    least_px_per_m = pasting.min_px / max(sprite.width_m, sprite.height_m)
    most_px_per_m = _LARGEST * min(height / sprite.height_m, width / sprite.width_m)
    farthest, nearest = (scale * pasting.camera_height_m for scale in (least_px_per_m, most_px_per_m))
    farthest, nearest = max(farthest, -horizon), min(nearest, height - 1 - horizon)
    if not 0.0 < farthest < nearest:
        return None
    if not ground.any():
        ground = np.broadcast_to(np.arange(height)[:, None] >= 0.5 * height, ground.shape)
    for _ in range(_TRIES):
        row = int(horizon + np.exp(rng.uniform(np.log(farthest), np.log(nearest))))
        columns = np.flatnonzero(ground[row])
        if not columns.size:
            continue
        column = int(columns[rng.integers(columns.size)])
        px_per_m = px_per_m_at(row, horizon, pasting.camera_height_m)
        half = max(1, round(0.5 * sprite.width_m * px_per_m))
        if ground[row, max(0, column - half) : column + half + 1].mean() >= _LEAST_FOOTING:
            return Footing(row, column, px_per_m)
    return None


def scene_colours(image_rgb: NDArray[np.uint8], known: NDArray[np.bool_], horizon: float) -> SceneColours:
    """Colours of what is known below the horizon, or of all that is known."""
    below = known & (np.arange(known.shape[0])[:, None] > horizon)
    mask = below if below.any() else known
    lab = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2LAB)
    mean, deviation = cv2.meanStdDev(lab, mask=mask.astype(np.uint8) if mask.any() else None)
    return SceneColours(np.asarray(mean[:, 0], np.float64), np.asarray(deviation[:, 0], np.float64))


def transfer_colours(rgba: NDArray[np.uint8], scene: SceneColours, strength: float) -> NDArray[np.uint8]:
    """Draw the colours of a thing towards those of the scene.

    Args:
        rgba: (h, w, 4).
        scene: what to draw towards.
        strength: 0 changes nothing; 1 sets the mean and deviation of the scene (the latter within a factor
            of 2).
            Lightness is drawn farther than hue, by the root of the strength: light falls on all things alike.
    """
    solid = (rgba[..., 3] > 127).astype(np.uint8)
    if strength == 0.0 or not solid.any():
        return rgba
    lab = cv2.cvtColor(np.ascontiguousarray(rgba[..., :3]), cv2.COLOR_RGB2LAB)
    means, deviations = cv2.meanStdDev(lab, mask=solid)
    own_mean, own_deviation = means[:, 0], deviations[:, 0]
    strengths = np.array([np.sqrt(strength), strength, strength])
    ratio = np.clip(scene.deviation / np.maximum(own_deviation, 1.0), 0.5, 2.0) ** strengths
    moved = (lab - own_mean) * ratio + own_mean + strengths * (scene.mean - own_mean)
    rgb = cv2.cvtColor(np.clip(np.rint(moved), 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    return np.dstack([rgb, rgba[..., 3]])


def paste(
    image_rgb: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    sprite: Sprite,
    footing: Footing,
    scene: SceneColours,
    pasting: Pasting,
    rng: np.random.Generator,
) -> None:
    """Stand one thing into an image, in place; what is nearer must be pasted later.

    Args:
        image_rgb: (h, w, 3).
        labels: (h, w): the thing's pixels become 1, those around it 255.
        sprite: what to paste.
        footing: its place.
        scene: the colours of the image.
        pasting: how.
        rng: random numbers.
    """
    strength = float(np.clip(pasting.colour_transfer * rng.uniform(0.5, 1.5), 0.0, 1.0))
    blur = pasting.blur_px * float(rng.uniform(0.5, 1.5))
    rgba = transfer_colours(sprite.rgba, scene, strength)
    if rng.random() < 0.5:
        rgba = rgba[:, ::-1]
    colour, coverage = _scaled(rgba, footing.px_per_m / sprite.px_per_m, blur)
    grain = rng.standard_normal(colour.shape, np.float32) * np.float32(pasting.noise) * coverage[..., None]

    _shade(image_rgb, footing, sprite.width_m, pasting.shadow)
    height, width = coverage.shape
    # The drawing's lowest pixels stand on the row; the margin around it is clear.
    touched_rows = np.flatnonzero((coverage > _TOUCHED).any(axis=1))
    bottom = int(touched_rows[-1]) + 1 if touched_rows.size else height
    top, left = footing.row + 1 - bottom, footing.column - width // 2
    here, there = _overlap((top, left), (height, width), labels.shape)
    under = image_rgb[there].astype(np.float32)
    over = under * (1.0 - coverage[here][..., None]) + colour[here] + grain[here]
    image_rgb[there] = np.clip(np.rint(over), 0, 255)

    touched = np.zeros(labels.shape, np.uint8)
    touched[there] = coverage[here] > _TOUCHED
    ring = 2 * pasting.void_ring_px + 1
    labels[cv2.dilate(touched, np.ones((ring, ring), np.uint8)) > 0] = VOID
    labels[there][coverage[here] >= _SOLID] = ANOMALOUS


def _scaled(rgba: NDArray[np.uint8], factor: float, blur_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colour times coverage (h, w, 3) and coverage (h, w) in [0, 1] of a drawing at another size, blurred."""
    coverage = rgba[..., 3].astype(np.float32) / 255.0
    weighted = np.dstack([rgba[..., :3] * coverage[..., None], coverage])
    size = max(1, round(rgba.shape[1] * factor)), max(1, round(rgba.shape[0] * factor))
    scaled = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR)
    margin = int(np.ceil(3 * blur_px)) + 1
    framed = cv2.copyMakeBorder(scaled, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    if blur_px > 0:
        framed = cv2.GaussianBlur(framed, (0, 0), blur_px)
    return np.asarray(framed[..., :3], np.float32), np.asarray(framed[..., 3], np.float32)


def _shade(image_rgb: NDArray[np.uint8], footing: Footing, width_m: float, darkness: float) -> None:
    """Darken the ground under and a little before and behind the base, softly."""
    half = 0.6 * width_m * footing.px_per_m
    depth = max(1.0, 0.22 * half)
    reach_x, reach_y = int(2.2 * half) + 2, int(2.2 * depth) + 2
    size = (2 * reach_y + 1, 2 * reach_x + 1)
    here, there = _overlap((footing.row - reach_y, footing.column - reach_x), size, image_rgb.shape[:2])
    y, x = np.ogrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    shadow = darkness * np.exp(-(((x / half) ** 2) ** 2) - (y / depth) ** 2)
    image_rgb[there] = np.rint(image_rgb[there] * (1.0 - shadow[here][..., None]))


def _overlap(
    corner: tuple[int, int], size: tuple[int, int], whole: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Compute the part of a patch inside an image, in coordinates of the patch and of the image."""
    here, there = [], []
    for start, length, limit in zip(corner, size, whole, strict=False):
        first, last = max(start, 0), max(min(start + length, limit), max(start, 0))
        here.append(slice(first - start, last - start))
        there.append(slice(first, last))
    return (here[0], here[1]), (there[0], there[1])
