"""Small periodic noise tiles and the texture families that obstacles are covered with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]

TILE = 512


@cache
def noise_tile(kind: str) -> Image:
    """Periodic grey noise, mean 128 and standard deviation about 42.

    `cloud` is smooth at all scales, `leaf` has blobs of some 8 px, `grain` is nearly white. Shape (512, 512), uint8.
    The spectra are powers of the frequency (Perlin-like, by filtering white noise in the Fourier domain).
    """
    exponent, low, high = {"cloud": (1.7, 1.0, 256.0), "leaf": (0.6, 12.0, 110.0), "grain": (0.15, 30.0, 256.0)}[kind]
    white = np.random.default_rng(len(kind) * 7919 + ord(kind[0])).standard_normal((TILE, TILE))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]) * TILE
    gain = np.where((frequency >= low) & (frequency <= high), np.maximum(frequency, 1.0) ** -exponent, 0.0)
    field = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(TILE, TILE))
    tile: Image = np.clip(128.0 + 42.0 * field / field.std(), 0, 255).astype(np.uint8)
    return tile


@cache
def _doubled(kind: str) -> Image:
    return np.tile(noise_tile(kind), (2, 2))


def noise_patch(kind: str, rng: np.random.Generator, size_hw: tuple[int, int], extent: float = 0.5) -> Image:
    """A random crop of a noise tile, `extent` of the tile high, resampled to `size_hw`; (h, w) uint8."""
    height, width = size_hw
    rows = max(4, int(TILE * extent))
    columns = max(4, int(rows * width / height))
    top, left = (int(v) for v in rng.integers(0, TILE, 2))
    if columns <= TILE:
        crop = _doubled(kind)[top : top + rows, left : left + columns]
    else:
        crop = noise_tile(kind)[np.arange(top, top + rows) % TILE][:, np.arange(left, left + columns) % TILE]
    shrinks = rows > height
    return cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[return-value]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB in [0, 255] of a colour given by hue, saturation and value in [0, 1]."""
    sector = (hue % 1.0) * 6.0
    rgb = [value - value * saturation * max(0.0, min((n + sector) % 6, 4 - (n + sector) % 6, 1)) for n in (5, 3, 1)]
    return (rgb[0] * 255.0, rgb[1] * 255.0, rgb[2] * 255.0)


def any_colour(rng: np.random.Generator) -> Colour:
    """A colour for man-made things: greys, browns and earth tones about as often as vivid colours."""
    draw = rng.random()
    if draw < 0.3:
        return hsv(rng.random(), rng.uniform(0.0, 0.12), rng.uniform(0.08, 0.95))
    if draw < 0.55:
        return hsv(rng.uniform(0.03, 0.13), rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.85))
    return hsv(rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.25, 0.95))


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour made brighter or darker."""
    return (min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor))


def mixed(one: Colour, weight: float, other: Colour, other_weight: float) -> Colour:
    """The weighted sum of two colours."""
    r, g, b = (weight * a + other_weight * c for a, c in zip(one, other, strict=True))
    return (r, g, b)


def tinted(grey: Image, dark: Colour, bright: Colour) -> Image:
    """Map grey 0..255 linearly onto the line between two colours; (h, w) -> (h, w, 3)."""
    ramp = np.linspace(0.0, 1.0, 256)[:, None]
    table = np.asarray(dark) * (1 - ramp) + np.asarray(bright) * ramp
    return np.ascontiguousarray(table.astype(np.uint8)[grey])


def _grid(size: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32), (y * np.cos(angle) - x * np.sin(angle)).astype(
        np.float32
    )


def _plain(rng: np.random.Generator, size: int) -> Image:
    colour = any_colour(rng)
    return tinted(noise_patch("cloud", rng, (size, size), 0.3), scaled(colour, 0.85), scaled(colour, 1.12))


def _gradient(rng: np.random.Generator, size: int) -> Image:
    along, _ = _grid(size, rng)
    ramp = cv2.normalize(along, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    return tinted(ramp, any_colour(rng), any_colour(rng))


def _stripes(rng: np.random.Generator, size: int) -> Image:
    along, _ = _grid(size, rng)
    wave = (along * rng.uniform(3, 11)) % 1.0 < rng.uniform(0.25, 0.7)
    return tinted(wave.astype(np.uint8) * 255, any_colour(rng), any_colour(rng))


def _checks(rng: np.random.Generator, size: int) -> Image:
    along, across = _grid(size, rng)
    count = rng.uniform(3, 9)
    parity = (np.floor(along * count) + np.floor(across * count)) % 2
    return tinted((parity * 255).astype(np.uint8), any_colour(rng), any_colour(rng))


def _noise(rng: np.random.Generator, size: int) -> Image:
    patch = noise_patch(str(rng.choice(["cloud", "leaf", "grain"])), rng, (size, size), rng.uniform(0.15, 0.6))
    return tinted(
        np.asarray(cv2.convertScaleAbs(patch, alpha=1.6, beta=-76), np.uint8), any_colour(rng), any_colour(rng)
    )


def _wood(rng: np.random.Generator, size: int) -> Image:
    along, across = _grid(size, rng)
    warp = noise_patch("cloud", rng, (size, size), 0.15).astype(np.float32) / 255.0
    rings = (np.sin((across * rng.uniform(4, 9) + warp * rng.uniform(1, 3) + 0.1 * along) * 2 * np.pi) + 1) * 0.5
    colour = hsv(rng.uniform(0.05, 0.11), rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.8))
    boards = np.where((across * rng.integers(2, 7)) % 1.0 < 0.05, 0.4, 1.0)
    return tinted((rings * boards * 255).astype(np.uint8), scaled(colour, 0.6), colour)


def _fabric(rng: np.random.Generator, size: int) -> Image:
    along, across = _grid(size, rng)
    weave = 18.0 * np.sin(along * 150.0) * np.sin(across * 150.0)
    folds = noise_patch("cloud", rng, (size, size), 0.12).astype(np.float32)
    colour = any_colour(rng)
    return tinted(np.clip(folds + weave, 0, 255).astype(np.uint8), scaled(colour, 0.35), scaled(colour, 1.25))


def _spots(rng: np.random.Generator, size: int) -> Image:
    image: Image = np.empty((size, size, 3), np.uint8)
    image[:] = any_colour(rng)
    inks = [any_colour(rng) for _ in range(2)]
    for x, y, radius in zip(*rng.random((3, int(rng.integers(8, 40)))), strict=True):
        ink = inks[int(radius * 20) % 2]
        cv2.circle(
            image, (int(x * size), int(y * size)), max(1, int((0.02 + 0.09 * radius) * size)), ink, -1, cv2.LINE_AA
        )
    return image


def _bricks(rng: np.random.Generator, size: int) -> Image:
    rows = int(rng.integers(4, 9))
    mortar, brick = any_colour(rng), any_colour(rng)
    image: Image = np.empty((size, size, 3), np.uint8)
    image[:] = mortar
    step, length = size / rows, size / rows * rng.uniform(1.5, 2.6)
    tones = rng.uniform(0.7, 1.2, (rows, 12))
    for row in range(rows):
        for column in range(int(size / length) + 2):
            left, top = (column - 0.5 * (row % 2)) * length, row * step
            ink = scaled(brick, tones[row, column])
            cv2.rectangle(
                image, (int(left + 0.1 * step), int(top + 0.1 * step)), (int(left + length), int(top + step)), ink, -1
            )
    return image


def _asphalt(rng: np.random.Generator, size: int) -> Image:
    grey = rng.uniform(50, 140)
    tint = rng.uniform(-6, 6)
    patch = noise_patch("grain", rng, (size, size), 0.25)
    return tinted(
        patch, (grey * 0.7 + tint, grey * 0.7, grey * 0.7 - tint), (grey * 1.3 + tint, grey * 1.3, grey * 1.3 - tint)
    )


def _print(rng: np.random.Generator, size: int) -> Image:
    image = _plain(rng, size)
    for x, y, w, h in zip(*rng.random((4, int(rng.integers(3, 9)))), strict=True):
        corner = (int((x + 0.1 + 0.4 * w) * size), int((y + 0.03 + 0.15 * h) * size))
        cv2.rectangle(image, (int(x * size), int(y * size)), corner, any_colour(rng), -1)
    return image


_MAKERS: dict[str, Callable[[np.random.Generator, int], Image]] = {
    "plain": _plain, "gradient": _gradient, "stripes": _stripes, "checks": _checks, "noise": _noise, "wood": _wood,
    "fabric": _fabric, "spots": _spots, "bricks": _bricks, "asphalt": _asphalt, "print": _print,
}  # fmt: skip

TEXTURE_FAMILIES: tuple[str, ...] = tuple(_MAKERS)


def make_texture(family: str, rng: np.random.Generator, size: int = 128) -> Image:
    """A square texture of one of `TEXTURE_FAMILIES`; (size, size, 3) uint8 RGB."""
    return _MAKERS[family](rng, size)
