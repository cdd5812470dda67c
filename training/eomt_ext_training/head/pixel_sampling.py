"""Drawing of pixels from labelled crops, with weights for an unbiased estimate of the mean over all pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from eomt_ext_training.data.sample import ANOMALOUS, VOID


class PixelSample(NamedTuple):
    """Pixels of B crops.

    Attributes:
        position: (B, P) int64, row·W + column.
        labels: (B, P) uint8.
        weight: (B, P) float32: the number of pixels that each one represents; 0 for a crop without valid pixels.
            The expectation of Σ weight·f(pixel) over the draw is the sum of f over the crop's valid pixels.
    """

    position: Tensor
    labels: Tensor
    weight: Tensor


def draw_pixels(labels: Tensor, count: int, *, balanced: bool, generator: torch.Generator) -> PixelSample:
    """Draw valid pixels of each crop, with replacement.

    Args:
        labels: (B, H, W) uint8: 0 normal, 1 anomalous, 255 void.
        count: P, pixels for each crop; at least 2 if ``balanced``.
        balanced: draw half of the pixels of a crop with both kinds from its anomalous ones; else uniformly.
        generator: on the device of the labels.

    Raises:
        ValueError: if there are too few pixels to draw.
    """
    if count < 1 + balanced:
        raise ValueError(f"at least {1 + balanced} pixels must be drawn from each crop, got {count}")
    rows = [_draw(crop, count, balanced, generator) for crop in labels.flatten(1)]
    return PixelSample(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _draw(labels: Tensor, count: int, balanced: bool, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of one crop, (H·W,)."""
    if balanced:
        anomalous = (labels == ANOMALOUS).nonzero()[:, 0]
        normal = ((labels != ANOMALOUS) & (labels != VOID)).nonzero()[:, 0]
        strata = [stratum for stratum in (anomalous, normal) if len(stratum)]
    else:
        valid = (labels != VOID).nonzero()[:, 0]
        strata = [valid] if len(valid) else []
    if not strata:
        position = torch.zeros(count, dtype=torch.int64, device=labels.device)
        return position, labels[position], torch.zeros(count, device=labels.device)
    counts = [count] if len(strata) == 1 else [count // 2, count - count // 2]
    drawn, weights = [], []
    for stratum, size in zip(strata, counts, strict=True):
        drawn.append(stratum[torch.randint(len(stratum), (size,), generator=generator, device=labels.device)])
        weights.append(torch.full((size,), len(stratum) / size, device=labels.device))
    position = torch.cat(drawn)
    return position, labels[position], torch.cat(weights)
