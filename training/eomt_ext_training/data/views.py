"""Views: crops of an image at the model's crop size, and their variation.

A view resizes the image, keeping its proportions, so that it just covers the crop (at scale 1; as the engine's ``eomt``
windows do), or larger, and cuts one crop out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError


@dataclass(frozen=True)
class Augmentation:
    """Amounts of variation; every standard deviation may be 0.

    Args:
        scale: smallest and largest scale, at least 1; drawn uniformly in its logarithm.
        mirror: whether every second view is mirrored.
        gain: standard deviation of the logarithm of the brightness.
        gamma: standard deviation of the logarithm of the exponent.
        tint: standard deviation of the logarithm of the gain of each channel.
        saturation: standard deviation of the logarithm of the saturation.
        noise: largest standard deviation of sensor noise, in levels of 255.
    """

    scale: tuple[float, float] = (1.0, 1.6)
    mirror: bool = True
    gain: float = 0.15
    gamma: float = 0.15
    tint: float = 0.04
    saturation: float = 0.2
    noise: float = 4.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.scale[0] <= self.scale[1]:
            raise ConfigError(f"scale must be two ascending numbers from 1 on, got {self.scale}")
        for name in ("gain", "gamma", "tint", "saturation", "noise"):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


class View(NamedTuple):
    """The geometry of a crop: size of the resized image, corner of the crop in it, and whether it is mirrored."""

    resized_hw: tuple[int, int]
    top: int
    left: int
    mirrored: bool
    crop_hw: tuple[int, int]

    def row_of(self, image_row: float, image_height: int) -> float:
        """Return the row of the crop for a row of the image."""
        return image_row * self.resized_hw[0] / image_height - self.top


@dataclass(frozen=True)
class Views:
    """The views of a data set: item ``number · num_images + row`` is view ``number`` of image ``row``.

    Args:
        crop_hw: the model's crop.
        per_image: views of each image; without augmentation they are spaced evenly along its longer side.
        augmentation: how views vary, or none.
        seed: of everything random.
    """

    crop_hw: tuple[int, int]
    per_image: int = 1
    augmentation: Augmentation | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "crop_hw", (int(self.crop_hw[0]), int(self.crop_hw[1])))
        if min(self.crop_hw) < 1 or self.per_image < 1:
            raise ConfigError(
                f"crop_hw and the views of an image must be positive, got {self.crop_hw} and {self.per_image}"
            )

    def locate(self, index: int, num_images: int) -> tuple[int, int, np.random.Generator]:
        """Image row, number of the view and the random numbers of an item; raises ``IndexError`` beyond the last."""
        number, row = divmod(range(num_images * self.per_image)[index], num_images)
        return row, number, np.random.default_rng([self.seed, number, row])

    def choose(self, image_hw: tuple[int, int], number: int, rng: np.random.Generator) -> View:
        """Return the geometry of view ``number`` of an image."""
        if self.augmentation is None:
            return fixed_view(image_hw, self.crop_hw, number, self.per_image)
        return drawn_view(image_hw, self.crop_hw, self.augmentation, rng)

    def finish(self, crop_rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Vary the colours of a crop, if views vary."""
        return crop_rgb if self.augmentation is None else recoloured(crop_rgb, self.augmentation, rng)


def fixed_view(image_hw: tuple[int, int], crop_hw: tuple[int, int], number: int, count: int) -> View:
    """One of ``count`` evenly spaced views at scale 1; a single one is in the middle.

    >>> [fixed_view((100, 300), (100, 100), number, 3).left for number in range(3)]
    [0, 100, 200]
    """
    resized_hw = _covering(image_hw, crop_hw, 1.0)
    fraction = 0.5 if count == 1 else number / (count - 1)
    top, left = (round(fraction * (size - crop)) for size, crop in zip(resized_hw, crop_hw, strict=True))
    return View(resized_hw, top, left, False, crop_hw)


def drawn_view(
    image_hw: tuple[int, int], crop_hw: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> View:
    """Draw a view of random scale, place and direction."""
    low, high = augmentation.scale
    resized_hw = _covering(image_hw, crop_hw, float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    top, left = (int(rng.integers(size - crop + 1)) for size, crop in zip(resized_hw, crop_hw, strict=True))
    return View(resized_hw, top, left, bool(augmentation.mirror and rng.random() < 0.5), crop_hw)


def cut_image(image_rgb: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Cut the (h, w, 3) crop of a view from an (H, W, 3) image."""
    shrinks = view.resized_hw[0] < image_rgb.shape[0]
    return _cut(image_rgb, view, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def cut_labels(labels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Cut the (h, w) crop of a view from an (H, W) label map; each pixel takes the label of the nearest one."""
    return _cut(labels, view, cv2.INTER_NEAREST_EXACT)


def recoloured(image_rgb: NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Vary brightness, contrast, tint, saturation and noise of a crop."""
    saturation = float(np.exp(rng.normal(0.0, augmentation.saturation)))
    grey = cv2.cvtColor(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(image_rgb, saturation, grey, 1.0 - saturation, 0.0)
    level = np.linspace(0.0, 1.0, 256)[:, None] ** np.exp(rng.normal(0.0, augmentation.gamma))
    gains = np.exp(rng.normal(0.0, augmentation.gain) + rng.normal(0.0, augmentation.tint, 3))
    table = np.clip(np.rint(255.0 * level * gains), 0, 255).astype(np.uint8)
    result = cv2.LUT(mixed, table[None])
    noise = float(rng.uniform(0.0, augmentation.noise))
    if noise > 0.0:
        grain = rng.standard_normal(image_rgb.shape, np.float32) * np.float32(noise)
        result = cv2.add(result, grain, dtype=cv2.CV_8U)
    return np.asarray(result, np.uint8)


def _covering(image_hw: tuple[int, int], crop_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    factor = max(crop / side for crop, side in zip(crop_hw, image_hw, strict=True)) * scale
    height, width = (max(crop, round(side * factor)) for crop, side in zip(crop_hw, image_hw, strict=True))
    return height, width


def _cut(array: NDArray[np.uint8], view: View, interpolation: int) -> NDArray[np.uint8]:
    height, width = view.resized_hw
    if array.shape[:2] != view.resized_hw:
        array = np.asarray(cv2.resize(array, (width, height), interpolation=interpolation), np.uint8)
    rows, columns = slice(view.top, view.top + view.crop_hw[0]), slice(view.left, view.left + view.crop_hw[1])
    crop: NDArray[Any] = array[rows, columns]
    return np.ascontiguousarray(crop[:, ::-1] if view.mirrored else crop)
