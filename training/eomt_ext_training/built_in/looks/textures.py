"""Abstract textures: dead leaves, fractal noise and the outputs of random convolutions.

Networks trained on such images alone learn features that hold on photographs (Baradad et al., "Learning to See by
Looking at Noise", NeurIPS 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option
from eomt_ext_core.scenes import TEXTURE_FAMILIES
from eomt_ext_core.scenes.drawing.textures import Colour, any_colour, hsv, make_texture

Image = NDArray[np.uint8]
Rng = np.random.Generator

_SMALLEST, _LARGEST = 0.012, 0.3  # radii of leaves as fractions of the side
_GREEN_FAMILY = "foliage"


@dataclass(frozen=True)
class Textures:
    """Number and size of the textures; equal seeds have equal textures."""

    count: int = option(360, "textures of all kinds, and a third as many of foliage", minimum=6)
    size: int = option(192, "side of a texture, in pixels", minimum=32)
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self)


class TextureBank:
    """Textures made once, from which patches are cut.

    Args:
        config: how many, and how large.
    """

    def __init__(self, config: Textures = Textures()) -> None:
        rng = np.random.default_rng([config.seed, 17])
        kinds = (_dead_leaves, _dead_leaves, _fractal, _fractal, _convolved, _drawn)
        self._any = [kinds[index % len(kinds)](rng, config.size) for index in range(config.count)]
        self._foliage = [foliage(rng, config.size) for _ in range(max(2, config.count // 3))]

    def patch(self, rng: Rng, size_hw: tuple[int, int], family: str = "any") -> Image:
        """Cut a patch of a random texture at a random zoom.

        Args:
            rng: random numbers.
            size_hw: size of the patch.
            family: ``any``, or ``foliage`` alone.

        Returns:
            (h, w, 3) uint8 RGB.
        """
        tiles = self._foliage if family == _GREEN_FAMILY else self._any
        tile = tiles[int(rng.integers(len(tiles)))]
        if rng.random() < 0.5:
            tile = tile.swapaxes(0, 1)
        side = tile.shape[0]
        height, width = size_hw
        longest = max(4, int(side * rng.uniform(0.25, 1.0)))
        rows, columns = (max(2, round(longest * part / max(size_hw))) for part in (height, width))
        top, left = int(rng.integers(side - rows + 1)), int(rng.integers(side - columns + 1))
        cut = np.ascontiguousarray(tile[top : top + rows, left : left + columns])
        shrinks = rows > height
        return np.asarray(
            cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
        )

    def tile(self, rng: Rng) -> Image:
        """Return a whole texture, (size, size, 3) uint8."""
        return self._any[int(rng.integers(len(self._any)))]


def dead_leaves(rng: Rng, size: int, palette: list[Colour], count: int) -> Image:
    """Opaque shapes that fall on each other, their areas distributed as 1/area² (Lee et al., IJCV 2001).

    Args:
        rng: random numbers.
        size: side in pixels.
        palette: colours to choose from; each leaf varies its own a little.
        count: leaves.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    image: Image = np.empty((size, size, 3), np.uint8)
    image[:] = palette[0]
    low, high = 1.0 / (_LARGEST * size) ** 2, 1.0 / (_SMALLEST * size) ** 2
    radii = rng.uniform(low, high, count) ** -0.5
    # the few large ones lie below, or they would hide all others
    radii[: count // 8] = rng.uniform(0.05, _LARGEST, count // 8) * size
    slim = rng.uniform(0.25, 1.0)
    centres, turns, kinds = rng.uniform(0, size, (count, 2)), rng.uniform(0, 180, count), rng.random(count)
    inks = np.clip(
        np.asarray(palette)[rng.integers(len(palette), size=count)] * rng.uniform(0.7, 1.3, (count, 1)), 0, 255
    )
    roundness = rng.random()
    for radius, centre, turn, kind, ink in zip(radii, centres, turns, kinds, inks.tolist(), strict=True):
        at = (float(centre[0]), float(centre[1]))
        if kind < roundness:
            axes = (max(1, int(radius)), max(1, int(radius * slim)))
            cv2.ellipse(image, (int(at[0]), int(at[1])), axes, turn, 0, 360, ink, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((at, (2 * radius, 2 * radius * slim), turn))
            if kind > 0.8:
                corners = corners[:3]
            cv2.fillPoly(image, [np.rint(corners * 16).astype(np.int32)], ink, cv2.LINE_AA, 4)
    return image


def foliage(rng: Rng, size: int) -> Image:
    """Leaves of plants: slim, green or yellow, bright ones above dark ones."""
    hue = rng.uniform(0.14, 0.36)
    palette = [hsv(hue + rng.normal(0, 0.02), rng.uniform(0.2, 0.8), value) for value in rng.uniform(0.05, 0.75, 6)]
    palette.sort(key=sum)
    image = dead_leaves(rng, size, palette, int(rng.integers(300, 900)))
    depth = _noise(rng, size, rng.uniform(1.0, 1.8))[..., None]
    return np.asarray(np.clip(image * (0.35 + 1.1 * depth), 0, 255), np.uint8)


def _dead_leaves(rng: Rng, size: int) -> Image:
    return dead_leaves(rng, size, [any_colour(rng) for _ in range(int(rng.integers(2, 7)))], int(rng.integers(60, 600)))


def _noise(rng: Rng, size: int, exponent: float) -> NDArray[np.float32]:
    """Periodic noise with the amplitude spectrum f^−exponent, from 0 to 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]) * size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * np.maximum(frequency, 1.0) ** -exponent
    field = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    low, high = np.percentile(field, (1, 99))
    return np.asarray(np.clip((field - low) / max(float(high - low), 1e-6), 0.0, 1.0), np.float32)


def _coloured(rng: Rng, field: NDArray[np.float32]) -> Image:
    """Colour a field from 0 to 1 with interpolated colours, smooth or in steps."""
    knots = np.linspace(0.0, 1.0, int(rng.integers(2, 6)))
    inks = np.asarray([any_colour(rng) for _ in knots])
    levels = np.linspace(0.0, 1.0, 256)
    if rng.random() < 0.3:
        levels = np.round(levels * (steps := int(rng.integers(2, 6)))) / steps
    table = np.stack([np.interp(levels, knots, inks[:, channel]) for channel in range(3)], -1)
    return np.ascontiguousarray(table.astype(np.uint8)[(field * 255).astype(np.uint8)])


def _fractal(rng: Rng, size: int) -> Image:
    image = _coloured(rng, _noise(rng, size, rng.uniform(0.4, 2.2)))
    light = 0.6 + 0.8 * _noise(rng, size, rng.uniform(0.2, 2.0))
    return np.asarray(np.clip(image * light[..., None], 0, 255), np.uint8)


def _convolved(rng: Rng, size: int) -> Image:
    """White noise through two layers of random 7×7 convolutions and rectifiers."""
    field = rng.standard_normal((size, size)).astype(np.float32)
    for _ in range(2):
        kernel = rng.standard_normal((7, 7)).astype(np.float32)
        field = np.asarray(cv2.filter2D(field, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT), np.float32)
        field = np.maximum(field / max(float(field.std()), 1e-6), 0.0)
    if rng.random() < 0.7:
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), float(rng.uniform(0.5, 5.0))), np.float32)
    low, high = np.percentile(field, (1, 99))
    return _coloured(rng, np.clip((field - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32))


def _drawn(rng: Rng, size: int) -> Image:
    return make_texture(TEXTURE_FAMILIES[int(rng.integers(len(TEXTURE_FAMILIES)))], rng, size)
