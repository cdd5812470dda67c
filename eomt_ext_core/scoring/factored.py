"""The anomaly head in an exact, fast form: the same logits without the (H, W, 4 + C) tensor.

The first layer is linear and bilinear resizing is linear, so they commute: ``W·concat(s, up(V)) + b`` equals
``W_s·s + up(W_v·V + b)`` because the interpolation weights of a pixel add up to 1. The features are thus projected
once per patch instead of once per pixel. ``msp`` is ``1 − max_prob``: its column folds into that of ``max_prob`` and
the bias.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.bilinear import BilinearRows
from eomt_ext_core.scoring.uncertainty import NUM_STATISTICS, SEMANTIC_FLOOR

# Activations in flight at a time: a band of rows that stays in a CPU's cache; on a GPU, most often the whole crop.
CPU_BAND_FLOATS = 1 << 21
GPU_BAND_FLOATS = 1 << 28


class FactoredHead:
    """Anomaly logits from predictions, equal to semantic map, statistics and ``head`` one after the other.

    Holds copies of the head's weights: make a new one when the head has changed. Inference only (dropout is off).

    Args:
        head: the trained head.
    """

    def __init__(self, head: PixelAnomalyHead) -> None:
        first, second, last = (layer for layer in head.mlp if isinstance(layer, nn.Linear))
        weight = first.weight.detach()
        by_max_prob, by_entropy, by_energy, by_msp = weight[:, :NUM_STATISTICS].unbind(dim=1)
        self.statistics_weight = torch.stack((by_max_prob - by_msp, by_entropy, by_energy), dim=1).t().contiguous()
        self.visual_weight = weight[:, NUM_STATISTICS:].clone()
        self.visual_bias = (first.bias.detach() + by_msp).contiguous()
        self.second_weight, self.second_bias = second.weight.detach().clone(), second.bias.detach().clone()
        self.last_weight, self.last_bias = last.weight.detach().clone(), last.bias.detach().clone()
        self._projection = copy.deepcopy(head.feature_proj)

    @torch.no_grad()
    def __call__(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel of every crop.

        Args:
            mask_logits: (B, Q, h, w).
            class_logits: (B, Q, C + 1).
            img_size: (H, W) of the result.
            features: (B, feature_dim, h', w') at patch resolution.

        Returns:
            (B, H, W, 1) anomaly logits.
        """
        # The statistics are always float32: an entropy summed in half precision is off by more than the head forgives.
        masks = mask_logits.float().permute(0, 2, 3, 1).contiguous()
        classes = class_logits.float().softmax(dim=-1)[..., :-1]
        hidden = self._project(features.to(self.visual_weight.dtype))

        height, width = img_size
        band_floats = GPU_BAND_FLOATS if masks.is_cuda else CPU_BAND_FLOATS
        rows = max(1, band_floats // (width * (masks.shape[3] + hidden.shape[3])))
        logits = masks.new_empty((masks.shape[0], height, width, 1))
        for image in range(masks.shape[0]):
            mask_rows = BilinearRows(masks[image : image + 1], img_size)
            hidden_rows = BilinearRows(hidden[image : image + 1], img_size)
            for start in range(0, height, rows):
                stop = min(start + rows, height)
                semantic = mask_rows(start, stop).sigmoid_() @ classes[image]
                logits[image, start:stop] = self._mlp(semantic, hidden_rows(start, stop))[0]
        return logits

    def _project(self, features: Tensor) -> Tensor:
        """The visual share of the first layer at patch resolution: (B, C, h, w) to (B, h, w, hidden)."""
        if self._projection is not None:
            features = self._projection(features)
        return F.linear(features.permute(0, 2, 3, 1), self.visual_weight, self.visual_bias)

    def _mlp(self, semantic: Tensor, visual: Tensor) -> Tensor:
        """The rest of the head on a band: (1, rows, W, C) and (1, rows, W, hidden) to (1, rows, W, 1)."""
        floored = semantic.clamp(min=SEMANTIC_FLOOR)
        entropy = -(floored * floored.log()).sum(dim=-1)
        statistics = torch.stack((semantic.amax(dim=-1), entropy, semantic.sum(dim=-1)), dim=-1).to(visual.dtype)
        hidden = visual.flatten(0, 2).addmm_(statistics.flatten(0, 2), self.statistics_weight).relu_()
        hidden = F.linear(hidden, self.second_weight, self.second_bias).relu_()
        return F.linear(hidden, self.last_weight, self.last_bias).view(*semantic.shape[:-1], 1)
