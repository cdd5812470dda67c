"""Weights of an anomaly head, rearranged to project the features once for each patch instead of each pixel.

The first layer is linear and bilinear resizing is linear, so they commute: ``W·concat(s, up(V)) + b`` equals
``W_s·s + up(W_v·V + b)`` because the interpolation weights of a pixel add up to 1. ``msp`` is ``1 − max_prob``: its
column folds into that of ``max_prob`` and the bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.uncertainty import NUM_STATISTICS, SEMANTIC_FLOOR


@dataclass(frozen=True)
class FactoredWeights:
    """Copies of a head's weights; its MLP takes V channels of visual features.

    Attributes:
        visual, visual_bias: (hidden, V) and (hidden,), the first layer's weights of the features, at patch resolution.
        statistics: (3, hidden), the first layer's weights of max_prob, entropy and energy.
        second, second_bias: (hidden // 2, hidden) and (hidden // 2,).
        last, last_bias: (1, hidden // 2) and (1,).
        projection, projection_bias: (V, feature_dim) and (V,), if the head projects the features first; else None.
    """

    visual: Tensor
    visual_bias: Tensor
    statistics: Tensor
    second: Tensor
    second_bias: Tensor
    last: Tensor
    last_bias: Tensor
    projection: Tensor | None
    projection_bias: Tensor | None

    @classmethod
    def of(cls, head: PixelAnomalyHead, *, copy: bool = True) -> FactoredWeights:
        """Rearrange the weights of a head: copies without gradients, or, for training, tensors with gradients."""
        first, second, last = (layer for layer in head.mlp if isinstance(layer, nn.Linear))
        by_max_prob, by_entropy, by_energy, by_msp = first.weight[:, :NUM_STATISTICS].unbind(dim=1)
        convolution = None if head.feature_proj is None else cast(nn.Conv2d, head.feature_proj[0])
        weights = cls(
            visual=first.weight[:, NUM_STATISTICS:],
            visual_bias=first.bias + by_msp,
            statistics=torch.stack((by_max_prob - by_msp, by_entropy, by_energy)),
            second=second.weight,
            second_bias=second.bias,
            last=last.weight,
            last_bias=last.bias,
            projection=None if convolution is None else convolution.weight.flatten(1),
            projection_bias=None if convolution is None else convolution.bias,
        )
        return weights._each(lambda part: part.detach().clone()) if copy else weights

    def to(self, dtype: torch.dtype) -> FactoredWeights:
        """Convert the weights to another type."""
        return self._each(lambda part: part.to(dtype))

    def _each(self, change: Callable[[Tensor], Tensor]) -> FactoredWeights:
        parts = ((item.name, getattr(self, item.name)) for item in fields(self))
        changed: dict[str, Any] = {name: change(part) for name, part in parts if part is not None}
        return replace(self, **changed)

    def project(self, features: Tensor) -> Tensor:
        """Compute the features' part of the first layer, (B, feature_dim, h, w) to (B, h, w, hidden)."""
        features = features.permute(0, 2, 3, 1)
        if self.projection is not None:
            features = F.linear(features, self.projection, self.projection_bias).relu_()
        return F.linear(features, self.visual, self.visual_bias)

    def logits(
        self, statistics: Tensor, visual: Tensor, drop: Callable[[Tensor], Tensor] = lambda hidden: hidden
    ) -> Tensor:
        """Apply the other layers, not in place: (…, 3) statistics and (…, hidden) visual to (…, 1) anomaly logits."""
        hidden = drop((visual + statistics @ self.statistics).relu())
        hidden = drop(F.linear(hidden, self.second, self.second_bias).relu())
        return F.linear(hidden, self.last, self.last_bias)


def channels_last_statistics(semantic: Tensor) -> Tensor:
    """Reduce a semantic map (…, C) to max_prob, entropy and energy, (…, 3)."""
    floored = semantic.clamp(min=SEMANTIC_FLOOR)
    entropy = -(floored * floored.log()).sum(dim=-1)
    return torch.stack((semantic.amax(dim=-1), entropy, semantic.sum(dim=-1)), dim=-1)
