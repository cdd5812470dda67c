"""Faults of a camera, put into the images of a drive from a stated frame on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import ConfigError

Image = npt.NDArray[np.uint8]

_ORDERS = ((2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1))


class CameraFault:
    """A fault of one kind, its details drawn from a seed: what it is, how strong, where.

    Images must be given in the order of their frames; those before `from_frame` are given back as they are.

    `kind` is one of `FAULT_KINDS`; raises `ConfigError` for any other.

    >>> fault = CameraFault("black", seed=0, from_frame=1)
    >>> grey = np.full((64, 96, 3), 128, np.uint8)
    >>> [int(fault.put_into(grey, index).mean()) < 10 for index in (0, 1)]
    [False, True]
    """

    def __init__(self, kind: str, seed: int, from_frame: int) -> None:
        if kind not in FAULT_KINDS:
            raise ConfigError(f"a fault must be one of {', '.join(FAULT_KINDS)}, got {kind!r}")
        self.kind, self.from_frame = kind, from_frame
        self._seed = seed
        self._held: Image | None = None

    def put_into(self, image_rgb: Image, index: int) -> Image:
        """The image of a frame (H, W, 3) uint8, with the fault if the frame has it."""
        if index < self.from_frame:
            return image_rgb
        if self._held is None:
            self._held = image_rgb.copy()
        if self.kind == "frozen":
            return self._held
        each, lasting = np.random.default_rng((self._seed, index)), np.random.default_rng(self._seed)
        if self.kind == "frozen_encoded":
            return _encoded(self._held, int(each.integers(70, 96)))
        return _FAULTS[self.kind](image_rgb, lasting, each)


Fault = Callable[[Image, np.random.Generator, np.random.Generator], Image]


def _encoded(image_rgb: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", image_rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    decoded_bgr: npt.NDArray[np.uint8] = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return np.ascontiguousarray(decoded_bgr[..., ::-1])


def _noisy(image: npt.NDArray[np.float32], sigma: float, each: np.random.Generator) -> Image:
    noise = each.standard_normal(image.shape, np.float32) * sigma
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _black(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    level, sigma = lasting.uniform(0, 8), lasting.uniform(0, 2.5)
    return _noisy(np.full(image_rgb.shape, level, np.float32), sigma, each)


def _over_exposed(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    level = float(np.quantile(image_rgb[::4, ::4], lasting.uniform(0.02, 0.2)))
    return _noisy(image_rgb * np.float32(262 / max(level, 4.0)), 1.0, each)


def _covered(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    """A hand, mud or a bag over the whole lens: hardly any light, and what there is out of focus."""
    height, width = image_rgb.shape[:2]
    colour = lasting.uniform(15, 150) * (1 + lasting.normal(0, 0.12, 3))
    few = colour + lasting.normal(0, 5, (3, 4, 3))
    smooth = cv2.resize(few.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return _noisy(np.asarray(smooth), lasting.uniform(0.5, 3), each)


def _fogged(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    """A film of droplets on the lens: blurred, and a veil over it."""
    cover, veil = np.float32(lasting.uniform(0.6, 0.85)), np.float32(lasting.uniform(110, 200))
    blurred = _gaussian(image_rgb, lasting.uniform(0.012, 0.03))
    return _noisy(blurred * (1 - cover) + veil * cover, lasting.uniform(0.5, 2), each)


def _blurred(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    return _noisy(_gaussian(image_rgb, lasting.uniform(0.012, 0.03)), lasting.uniform(0.5, 2), each)


def _gaussian(image_rgb: Image, fraction: float) -> npt.NDArray[np.float32]:
    sigma = fraction * image_rgb.shape[1]
    return np.asarray(cv2.GaussianBlur(image_rgb, (0, 0), sigma), dtype=np.float32)


def _dirt(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    """One to three lumps of mud on the lens, out of focus, each 1.5 to 6 % of the image, over the road or beside it."""
    height, width = image_rgb.shape[:2]
    cover = np.zeros((height, width), np.float32)
    for _ in range(int(lasting.integers(1, 4))):
        radius = float(np.sqrt(lasting.uniform(0.015, 0.06) * height * width / np.pi))
        centre = round(lasting.uniform(0.1, 0.9) * width), round(lasting.uniform(0.55, 0.85) * height)
        axes = round(radius * lasting.uniform(0.8, 1.25)), round(radius)
        cv2.ellipse(cover, centre, axes, lasting.uniform(0, 180), 0, 360, 1.0, -1)
    cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), height * 0.01), dtype=np.float32)[..., None]
    mud = (lasting.uniform(20, 90) * np.array((1.1, 1.0, 0.8))).astype(np.float32)
    mixed = image_rgb * (1 - cover) + _noisy(np.broadcast_to(mud, image_rgb.shape), 1.0, each) * cover
    return np.rint(mixed).astype(np.uint8)


def _dead_channel(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    image_rgb = image_rgb.copy()
    image_rgb[..., int(lasting.integers(3))] = lasting.choice((0, 0, 128, 255))
    return image_rgb


def _swapped_channels(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    order = _ORDERS[0] if lasting.random() < 0.6 else _ORDERS[int(lasting.integers(1, len(_ORDERS)))]
    return np.ascontiguousarray(image_rgb[..., order])


def _upside_down(image_rgb: Image, lasting: np.random.Generator, each: np.random.Generator) -> Image:
    return np.ascontiguousarray(image_rgb[::-1, ::-1])


_FAULTS: Mapping[str, Fault] = {
    "black": _black,
    "over_exposed": _over_exposed,
    "covered": _covered,
    "fogged": _fogged,
    "blurred": _blurred,
    "dirt": _dirt,
    "dead_channel": _dead_channel,
    "swapped_channels": _swapped_channels,
    "upside_down": _upside_down,
}

FAULT_KINDS = ("frozen", "frozen_encoded", *_FAULTS)
