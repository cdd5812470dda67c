"""Camera effects: optics, exposure, tone curve and sharpening, noise and compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option

Image = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Sensor:
    """Variation of cameras."""

    gain: float = option(0.2, "deviation of the logarithm of the exposure", minimum=0.0, maximum=1.0)
    gamma: float = option(0.2, "deviation of the logarithm of the tone curve's exponent", minimum=0.0, maximum=1.0)
    contrast: float = option(0.2, "deviation of the logarithm of the contrast", minimum=0.0, maximum=1.0)
    tint: float = option(0.08, "deviation of the logarithm of a channel's gain", minimum=0.0, maximum=1.0)
    saturation: float = option(0.35, "deviation of the logarithm of the saturation", minimum=0.0, maximum=2.0)
    grey: float = option(0.05, "probability of an image without colour", minimum=0.0, maximum=1.0)
    blur: float = option(0.35, "probability of blur, of the lens or of motion", minimum=0.0, maximum=1.0)
    coarse: float = option(0.15, "probability of an image enlarged from fewer pixels", minimum=0.0, maximum=1.0)
    film: float = option(
        0.3, "probability of a tone curve with toe and shoulder, or against them", minimum=0.0, maximum=1.0
    )
    sharpened: float = option(0.3, "probability of sharpening", minimum=0.0, maximum=1.0)
    noise: float = option(0.6, "probability of noise", minimum=0.0, maximum=1.0)
    jpeg: float = option(0.4, "probability of compression", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def photographed(image_rgb: Image, sensor: Sensor, rng: Rng) -> Image:
    """Apply a random camera to a scene, (h, w, 3) uint8."""
    image = _optics(image_rgb, sensor, rng)
    image = _processor(image, sensor, rng)
    if rng.random() < sensor.noise:
        strength = float(np.exp(rng.uniform(np.log(1.0), np.log(14.0))))
        height, width = image.shape[:2]
        grain = rng.standard_normal((height, width, 3 if rng.random() < 0.5 else 1), np.float32) * np.float32(strength)
        if rng.random() < 0.4:  # as a denoising processor leaves it
            grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.8), np.float32).reshape(height, width, -1) * 2
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < sensor.jpeg:
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 95))])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return image


def _optics(image: Image, sensor: Sensor, rng: Rng) -> Image:
    height, width = image.shape[:2]
    if rng.random() < sensor.coarse:
        factor = rng.uniform(0.4, 0.9)
        small = cv2.resize(image, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
        kind = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(small, (width, height), interpolation=kind), np.uint8)
    if rng.random() < sensor.blur:
        if rng.random() < 0.7:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6))), np.uint8)
        else:
            image = np.asarray(cv2.filter2D(image, -1, _motion(rng)), np.uint8)
    return image


def _motion(rng: Rng) -> NDArray[np.float32]:
    size = int(rng.choice([3, 5, 7]))
    kernel = np.zeros((size, size), np.float32)
    turn, middle = rng.uniform(0, np.pi), size // 2
    end = (round(middle + middle * np.cos(turn)), round(middle + middle * np.sin(turn)))
    cv2.line(kernel, (2 * middle - end[0], 2 * middle - end[1]), end, 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _processor(image: Image, sensor: Sensor, rng: Rng) -> Image:
    """Sharpening, saturation, white balance, exposure and tone curve."""
    if rng.random() < sensor.sharpened:
        soft = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 2.0)))
        amount = float(rng.uniform(0.2, 1.5))
        image = np.asarray(cv2.addWeighted(image, 1 + amount, soft, -amount, 0.0), np.uint8)
    saturation = 0.0 if rng.random() < sensor.grey else float(np.exp(rng.normal(0.0, sensor.saturation)))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    image = np.asarray(cv2.addWeighted(image, saturation, grey, 1.0 - saturation, 0.0), np.uint8)
    level = np.linspace(0.0, 1.0, 256)[:, None]
    gains = np.exp(rng.normal(0.0, sensor.gain) + rng.normal(0.0, sensor.tint, 3))
    level = np.clip(level * gains, 0.0, 1.0) ** np.exp(rng.normal(0.0, sensor.gamma))
    level = (level - 0.5) * np.exp(rng.normal(0.0, sensor.contrast)) + 0.5
    if rng.random() < sensor.film:
        level = level + rng.uniform(-0.12, 0.12) * np.sin(2 * np.pi * np.clip(level, 0, 1))
    table = np.clip(np.rint(level * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)
