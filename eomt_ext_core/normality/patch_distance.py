"""How far a patch is from what has been seen: the whitened distance to the nearest prototype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.normality.learn_config import LearnConfig

_ITERATIONS = 12
_LEAST_OF_A_GROUP = 16
_LEAST_SHRINKAGE = 0.01
_LEAST_VARIANCE = 1e-4  # of patches that are all alike, such as of a drawing, beside their mean square


@dataclass(frozen=True)
class PatchDistance:
    """Measure patch features against prototypes, in a space where ordinary patches vary equally in all directions.

    With one prototype it is the Mahalanobis distance; with several that share a covariance, the distance of Lee et al.
    (2018) with clusters in the place of classes.

    Attributes:
        whitening: (C, R) float32.
        prototypes: (K, R) float32, whitened.
    """

    whitening: Tensor
    prototypes: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Give (B, 1, h, w) float32 distances of (B, C, h, w) features, of any floating type."""
        return self.of_patches(features.permute(0, 2, 3, 1).float())[:, None]

    def of_patches(self, patches: Tensor) -> Tensor:
        """Give the distances of patches, (…, C) float32 to (…)."""
        whitened = patches @ self.whitening
        squared = whitened.square().sum(-1, keepdim=True) + self.prototypes.square().sum(-1)
        squared = squared - 2 * whitened @ self.prototypes.T
        return squared.amin(-1).clamp(min=0).sqrt()

    def to(self, device: torch.device) -> PatchDistance:
        """Give the same on a device."""
        return PatchDistance(self.whitening.to(device), self.prototypes.to(device))


def learn_distance(patches: Tensor, num_prototypes: int = LearnConfig.prototypes) -> PatchDistance:
    """Learn prototypes and whitening of ordinary patches.

    Patches are grouped by direction (spherical k-means); the covariance within the groups, which they share, is shrunk
    towards a multiple of the identity, the more the fewer patches there are.

    Args:
        patches: (N, C) float32.
        num_prototypes: most of them; there are fewer if there are fewer patches.
    """
    groups = _group(F.normalize(patches, dim=1), max(1, min(num_prototypes, len(patches) // _LEAST_OF_A_GROUP)))
    counts = torch.bincount(groups)
    means = patches.new_zeros((len(counts), patches.shape[1])).index_add_(0, groups, patches)
    means = (means / counts.clamp(min=1)[:, None])[counts > 0]
    within = patches - means[(counts > 0).cumsum(0)[groups] - 1]
    covariance = within.T @ within / len(patches)
    variances, directions = torch.linalg.eigh(covariance)
    shrinkage = max(_LEAST_SHRINKAGE, patches.shape[1] / len(patches))
    floor = shrinkage * torch.maximum(variances.mean(), _LEAST_VARIANCE * patches.square().mean())
    whitening = directions / (variances.clamp(min=0) + floor).sqrt()
    return PatchDistance(whitening, means @ whitening)


def _group(unit_patches: Tensor, count: int) -> Tensor:
    """Assign each of (N, C) patches of length 1 to one of ``count`` groups, the same way every time."""
    generator = torch.Generator().manual_seed(0)
    centres = unit_patches[torch.randperm(len(unit_patches), generator=generator)[:count]].clone()
    groups = (unit_patches @ centres.T).argmax(1)
    for _ in range(_ITERATIONS):
        centres = F.normalize(torch.zeros_like(centres).index_add_(0, groups, unit_patches), dim=1)
        groups = (unit_patches @ centres.T).argmax(1)
    return groups
