"""The anomaly head in a fast form: the same logits without the (H, W, 4 + C) tensor.

The features are projected once for each patch instead of each pixel (see :mod:`~.factored_weights`), and a window is
processed in bands of rows that fit into the CPU's cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.kernels.packed_linear import PackedLinear, packs
from eomt_ext_core.processor import multiplies_bf16
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.bilinear import BilinearRows
from eomt_ext_core.scoring.factored_weights import FactoredWeights
from eomt_ext_core.scoring.uncertainty import SEMANTIC_FLOOR

# Most activations at a time: a band of rows that fits into a CPU's cache; on a GPU, usually the whole window.
CPU_BAND_FLOATS = 1 << 20
GPU_BAND_FLOATS = 1 << 28


class FactoredHead:
    """Compute anomaly logits from predictions, equal to the semantic map, the statistics and the head in sequence.

    With float32 features everything is float32. With 16-bit features only the product of the second layer, the largest
    of all, has 16-bit operands, if the hardware supports it (any GPU; some CPUs for bfloat16). The rest stays float32:
    an entropy summed in half precision is too inexact for the head. Autocast has no effect.

    Holds copies of the head's weights: create a new one when the head has changed. For inference only (no dropout).

    Args:
        head: the trained head.
        reason: reason for the choice of this implementation.
    """

    name = "torch"

    def __init__(self, head: PixelAnomalyHead, reason: str = "asked for") -> None:
        self.reason = reason
        self._weights = FactoredWeights.of(head)
        self._packed: dict[torch.dtype, PackedLinear] = {}

    def __call__(
        self, mask_logits: Tensor, class_logits: Tensor, img_size: tuple[int, int], features: Tensor
    ) -> Tensor:
        """Score every pixel of every crop.

        Args:
            mask_logits: (B, Q, h, w), of any floating type.
            class_logits: (B, Q, C + 1), of any floating type.
            img_size: (H, W) of the result.
            features: (B, feature_dim, h', w') at patch resolution; float32, bfloat16 or float16.

        Returns:
            (B, H, W, 1) float32 anomaly logits.
        """
        logits = mask_logits.new_empty((mask_logits.shape[0], *img_size, 1), dtype=torch.float32)
        self._score(mask_logits, class_logits, features, logits)
        return logits

    @torch.no_grad()
    def _score(self, mask_logits: Tensor, class_logits: Tensor, features: Tensor, logits: Tensor) -> None:
        # autocast would round the statistics, and its products have the wrong type for the writes in place
        device = mask_logits.device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):
            masks = mask_logits.float().permute(0, 2, 3, 1).contiguous()
            probs_by_class = class_logits.float().softmax(dim=-1)[..., :-1].mT.contiguous()
            hidden = self._weights.project(features.float())
            dtype = features.dtype if _multiplies(features) else torch.float32
            second = self._second_layer(dtype, features.device)

            size_hw = height, width = logits.shape[1], logits.shape[2]
            band_floats = GPU_BAND_FLOATS if masks.is_cuda else CPU_BAND_FLOATS
            rows = max(1, band_floats // (width * (masks.shape[3] + hidden.shape[3])))
            for image in range(masks.shape[0]):
                mask_rows = BilinearRows(masks[image : image + 1], size_hw)
                hidden_rows = BilinearRows(hidden[image : image + 1], size_hw)
                for start in range(0, height, rows):
                    band = image, slice(start, min(start + rows, height))
                    extent = band[1].start, band[1].stop
                    # Pixels are the last dimension: reductions over the few classes are then sums of long vectors.
                    semantic = probs_by_class[image] @ mask_rows(*extent).sigmoid_().flatten(0, 2).t()
                    visual = hidden_rows(*extent).flatten(0, 2)
                    logits[band] = self._mlp(_statistics(semantic), visual, second).view(-1, width, 1)

    def _second_layer(self, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Give the second layer, from (N, hidden) float32 to a type."""
        layer = self._packed.get(dtype)
        if layer is None:
            weight, bias = self._weights.second.to(dtype), self._weights.second_bias.to(dtype)
            if device.type != "cpu" or not packs(dtype):  # on a GPU nothing may outlive the capture of a graph
                return lambda hidden: F.linear(hidden.to(dtype), weight, bias)
            layer = self._packed[dtype] = PackedLinear(weight, bias)
        return lambda hidden: layer(hidden.to(dtype))

    def _mlp(self, statistics: Tensor, visual: Tensor, second: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply the remaining layers to N pixels: (3, N) and (N, hidden), which is overwritten, to (N, 1)."""
        weights = self._weights
        hidden = second(visual.addmm_(statistics.t(), weights.statistics).relu_()).relu_()
        return F.linear(hidden.float(), weights.last, weights.last_bias)


def _statistics(semantic: Tensor) -> Tensor:
    """Reduce the semantic map of N pixels, (C, N), which is overwritten, to max_prob, entropy and energy, (3, N)."""
    max_prob, energy = semantic.amax(dim=0), semantic.sum(dim=0)
    floored = semantic.clamp_(min=SEMANTIC_FLOOR)
    return torch.stack((max_prob, -(floored.log().mul_(floored)).sum(dim=0), energy))


def _multiplies(features: Tensor) -> bool:
    """Whether the hardware multiplies matrices of this type faster than float32."""
    return features.is_cuda or (features.dtype == torch.bfloat16 and multiplies_bf16())
