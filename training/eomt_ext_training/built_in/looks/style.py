"""Changes of a whole image that keep its shapes: random convolutions, and the amplitudes of another scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import check_options, option

Image = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True)
class Style:
    """Probabilities of changes of the whole image."""

    convolution: float = option(0.15, "probability of a random convolution", minimum=0.0, maximum=1.0)
    amplitude: float = option(0.1, "probability of another scene's Fourier amplitudes", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def randomly_convolved(image_rgb: Image, rng: Rng) -> Image:
    """Filter an image by a random 3×3 or 5×5 convolution over its three channels, mixed with itself.

    Random convolutions keep shapes and change textures and colours (Xu et al., ICLR 2021). Each channel keeps the mean
    and the deviation that it had.

    Args:
        image_rgb: (h, w, 3).
        rng: random numbers.

    Returns:
        the changed image.
    """
    size = int(rng.choice([1, 3, 5]))
    source = image_rgb.astype(np.float32)
    channels = cv2.split(source)
    mixed = []
    for own in range(3):
        kernels = rng.standard_normal((3, size, size)).astype(np.float32) / size
        kernels[own, size // 2, size // 2] += 1.0  # or most results would be hardly more than edges
        total = sum(
            np.asarray(cv2.filter2D(channel, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)
            for channel, kernel in zip(channels, kernels, strict=True)
        )
        mixed.append(total)
    changed = np.stack(mixed, -1).astype(np.float32)
    for channel in range(3):
        deviation = max(float(changed[..., channel].std()), 1e-3)
        changed[..., channel] -= changed[..., channel].mean()
        changed[..., channel] *= source[..., channel].std() / deviation
        changed[..., channel] += source[..., channel].mean()
    weight = np.float32(rng.uniform(0.2, 0.8))
    return np.asarray(np.clip(source + (changed - source) * weight, 0, 255), np.uint8)


def with_amplitudes_of(image_rgb: Image, other_rgb: Image, rng: Rng) -> Image:
    """Give an image the low-frequency Fourier amplitudes of another one, mixed with its own; phases stay.

    After Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation" (CVPR 2020), and the mixing of
    Xu et al. (CVPR 2021), both between drawn scenes here.

    Args:
        image_rgb: (h, w, 3).
        other_rgb: of the same size.
        rng: random numbers.

    Returns:
        the changed image.
    """
    height, width = image_rgb.shape[:2]
    spectra = [np.fft.rfft2(image.astype(np.float32), axes=(0, 1)) for image in (image_rgb, other_rgb)]
    reach = rng.uniform(0.01, 0.5)
    low = (np.abs(np.fft.fftfreq(height))[:, None] < reach) & (np.fft.rfftfreq(width)[None, :] < reach)
    own, foreign = (np.abs(spectrum) for spectrum in spectra)
    wanted = own + (foreign - own) * (rng.uniform(0.2, 0.8) * low)[..., None]
    changed = np.fft.irfft2(spectra[0] * (wanted / np.maximum(own, 1e-6)), s=(height, width), axes=(0, 1))
    return np.asarray(np.clip(changed, 0, 255), np.uint8)


def restyled(image_rgb: Image, other: Callable[[], Image], style: Style, rng: Rng) -> Image:
    """Change the look of an image, with the probabilities of ``style``; ``other`` gives another scene of its size."""
    if rng.random() < style.amplitude:
        image_rgb = with_amplitudes_of(image_rgb, other(), rng)
    if rng.random() < style.convolution:
        image_rgb = randomly_convolved(image_rgb, rng)
    return image_rgb
