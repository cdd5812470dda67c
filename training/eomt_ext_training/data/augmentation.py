"""Augmented copies of a data set's samples, the same each time, so that their frozen outputs can be cached."""

from __future__ import annotations

import sys
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_training.data.sample import AnomalyDataset, Sample
from eomt_ext_training.targets import with_label_map


class Augmented(Dataset[Sample]):
    """Each sample unchanged, and further copies of it, mirrored and with other light.

    Args:
        samples: the data set.
        copies: of each sample, the first of which is unchanged.
        seed: of the changes.
    """

    def __init__(self, samples: Dataset, copies: int = 2, seed: int = 0) -> None:  # type: ignore[type-arg]
        if copies < 1:
            raise ValueError(f"copies must be at least 1, got {copies}")
        self._samples = cast(AnomalyDataset, samples)
        self._copies, self._seed = copies, seed

    def __len__(self) -> int:
        return len(self._samples) * self._copies

    def __getitem__(self, index: int) -> Sample:
        original, copy = divmod(index, self._copies)
        sample = self._samples[original]
        if copy == 0:
            return sample
        sample = with_label_map(sample)
        rng = np.random.default_rng((self._seed, original, copy))
        image, labels = sample.image, sample.labels
        if rng.random() < 0.5:
            image, labels = image.flip(2), labels.flip(1)
        light = vary_light(image[None].float() / 255, rng)[0]
        return Sample((light * 255).round().byte(), labels, f"{sample.key} copy {copy}")

    def fingerprint(self) -> str:
        """Digest the samples and the augmentation."""
        settings = (self._samples.fingerprint(), self._copies, self._seed)
        return fingerprint_of(settings, generators=[sys.modules[__name__]])


def vary_light(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary gain and gamma of each image, and the gain of each channel: (B, 3, h, w) in [0, 1]."""
    batch = len(images)
    gain = np.exp(rng.normal(0, 0.1, (batch, 1, 1, 1)) + rng.normal(0, 0.04, (batch, 3, 1, 1)))
    gamma = np.exp(rng.normal(0, 0.12, (batch, 1, 1, 1)))
    return (images.pow(torch.from_numpy(gamma).float()) * torch.from_numpy(gain).float()).clamp_(0, 1)
