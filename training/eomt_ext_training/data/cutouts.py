"""Things to paste into normal traffic: drawn ones, and cut-outs from a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

import eomt_ext_core.scenes as scenes_package
from eomt_ext_core import images
from eomt_ext_core.errors import ConfigError, DatasetError, EomtExtError
from eomt_ext_core.files import printable
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_core.images import list_images, read_unchanged
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, TEXTURE_FAMILIES, SceneConfig, Sprite, draw_obstacle
from eomt_ext_training.data.stored.image_files import report_skipped

MAX_SIDE_PX = 256  # cut-outs are kept in memory, and pasted ones are seldom larger
_BORDER_PX = 2
_SMALLEST_DRAWING_PX, _LARGEST_DRAWING_PX = 32, 256


class CutoutSource(Protocol):
    """A source of things to paste."""

    def draw(self, rng: np.random.Generator, px_per_m: float) -> Sprite:
        """Draw a thing, with enough detail for ``px_per_m`` pixels per metre."""
        ...

    def fingerprint(self) -> str:
        """Return a short text that changes whenever the things may have changed."""
        ...


class ProceduralCutouts:
    """The obstacles of the core's procedural scenes.

    Args:
        families: of shapes, out of ``OBSTACLE_FAMILIES``; keep some for validation.
        textures: families of textures, out of ``TEXTURE_FAMILIES``.

    Raises:
        ConfigError: for an unknown family.
    """

    def __init__(
        self, families: tuple[str, ...] = OBSTACLE_FAMILIES, textures: tuple[str, ...] = TEXTURE_FAMILIES
    ) -> None:
        self.families, self.textures = tuple(families), tuple(textures)
        SceneConfig(obstacle_families=self.families, texture_families=self.textures)  # checks the names

    def draw(self, rng: np.random.Generator, px_per_m: float) -> Sprite:
        """Draw one obstacle at a power of two of pixels, no smaller than it will be."""
        obstacle = draw_obstacle(rng, 0.0, 0.0, self.families, self.textures)
        pixels = max(obstacle.height_m, obstacle.width_m) * px_per_m
        resolution = 2 ** int(np.ceil(np.log2(max(pixels, _SMALLEST_DRAWING_PX))))
        return obstacle.drawing(min(resolution, _LARGEST_DRAWING_PX))

    def fingerprint(self) -> str:
        """Covers the families and the code."""
        return fingerprint_of((self.families, self.textures), generators=[sys.modules[__name__], scenes_package])


class CutoutFolder:
    """RGBA images of things, cut out along their outline: each is pasted at a height drawn from ``height_m``.

    Args:
        folder: with the images.
        height_m: smallest and largest height in metres, drawn uniformly in the logarithm.

    Attributes:
        skipped: a line for each file that is broken, has no alpha channel, or is empty.

    Raises:
        DatasetError: if no cut-out is left.
    """

    def __init__(self, folder: str, height_m: tuple[float, float] = (0.2, 1.6)) -> None:
        self.paths: list[Path] = []
        self.height_m = checked_heights(height_m)
        self._cutouts: list[NDArray[np.uint8]] = []
        skipped: list[str] = []
        found = list_images(folder)
        for path in found:
            try:
                self._cutouts.append(trimmed(_read_rgba(path)))
                self.paths.append(path)
            except EomtExtError as error:
                skipped.append(str(error))
        self.skipped = tuple(skipped)
        report_skipped(skipped, len(found), folder)
        if not self._cutouts:
            raise DatasetError(f"{folder} must hold at least one RGBA image, got none of {len(found)} images")

    def __len__(self) -> int:
        return len(self._cutouts)

    def draw(self, rng: np.random.Generator, px_per_m: float) -> Sprite:
        """Take one of the cut-outs, at a random height."""
        return drawn_sprite(self._cutouts, self.height_m, rng)

    def fingerprint(self) -> str:
        """Covers the heights, the files and the code."""
        return fingerprint_of(self.height_m, self.paths, [sys.modules[__name__], images])


def trimmed(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut to what is not clear, scale down to ``MAX_SIDE_PX`` and put a clear border around.

    Args:
        rgba: (h, w, 4) with at least one pixel that is not clear.
    """
    rows, columns = (np.flatnonzero((rgba[..., 3] > 0).any(axis)) for axis in (1, 0))
    rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = min(1.0, MAX_SIDE_PX / max(rgba.shape[:2]))
    if factor < 1.0:
        alpha = rgba[..., 3:].astype(np.float32) / 255.0  # what is clear must not bleed into the edge
        weighted = np.concatenate([rgba[..., :3] * alpha, alpha * 255.0], axis=-1)
        size = max(1, round(rgba.shape[1] * factor)), max(1, round(rgba.shape[0] * factor))
        small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
        colour = small[..., :3] / np.maximum(small[..., 3:] / 255.0, 1e-3)
        rgba = np.clip(np.rint(np.dstack([colour, small[..., 3]])), 0, 255).astype(np.uint8)
    border = _BORDER_PX
    framed = cv2.copyMakeBorder(rgba, border, border, border, border, cv2.BORDER_REPLICATE)
    framed[:border, :, 3] = framed[-border:, :, 3] = framed[:, :border, 3] = framed[:, -border:, 3] = 0
    return np.asarray(framed, np.uint8)


def drawn_sprite(cutouts: list[NDArray[np.uint8]], height_m: tuple[float, float], rng: np.random.Generator) -> Sprite:
    """One of a list of trimmed cut-outs as a sprite of random height."""
    rgba = cutouts[int(rng.integers(len(cutouts)))]
    height = float(np.exp(rng.uniform(*np.log(height_m))))
    px_per_m = (rgba.shape[0] - 2 * _BORDER_PX) / height
    return Sprite(rgba, (rgba.shape[1] - 2 * _BORDER_PX) / px_per_m, height, px_per_m)


def checked_heights(height_m: tuple[float, float]) -> tuple[float, float]:
    """Check that the two heights are positive and ascending; returns them."""
    if not 0.0 < height_m[0] <= height_m[1]:
        raise ConfigError(f"height_m must be two positive, ascending numbers of metres, got {height_m}")
    return float(height_m[0]), float(height_m[1])


def _read_rgba(path: Path) -> NDArray[np.uint8]:
    image = read_unchanged(path)
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        raise DatasetError(f"{printable(path)}: a cut-out must be 8-bit RGBA, got {image.shape} {image.dtype}")
    if not image[..., 3].any():
        raise DatasetError(f"{printable(path)}: every pixel is clear")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), np.uint8)
