"""The loss of the anomaly head and its gradients from frozen outputs, without the (H, W, 4 + C) tensor.

The first layer is linear, bilinear resizing is linear: they commute, and the features are projected once for each patch
instead of once for each pixel (see :mod:`eomt_ext_core.scoring.factored`). What is left of a pixel is worked on in
bands of rows, or only for the pixels that were drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.bilinear import BilinearRows
from eomt_ext_core.scoring.factored_weights import FactoredWeights, channels_last_statistics
from eomt_ext_training.head.losses import pixel_losses
from eomt_ext_training.head.pixel_sampling import PixelSample

# Activations of a band: about the size of a CPU's cache, and enough to keep a GPU busy.
CPU_BAND_FLOATS = 1 << 21
GPU_BAND_FLOATS = 1 << 27
_PER_PIXEL = ("statistics", "second", "second_bias", "last", "last_bias")  # of FactoredWeights


def loss_on_all_pixels(
    head: PixelAnomalyHead, prediction: Prediction, labels: Tensor, pos_weight: float, num_valid: float
) -> Tensor:
    """Sum the loss over all valid pixels, divided by ``num_valid``.

    Gradients are computed band by band in the forward pass, so that memory does not grow with the crop.

    Args:
        head: in training mode with dropout, in eval mode without.
        prediction: of the frozen network, B crops, any floating type.
        labels: (B, H, W) uint8.
        pos_weight: weight of anomalous pixels.
        num_valid: divisor of the sum.

    Returns:
        a scalar.
    """
    weights = FactoredWeights.of(head, copy=False)
    bands = _Bands(weights, prediction, labels, pos_weight, head.config.dropout if head.training else 0.0)
    layers = (getattr(weights, name) for name in _PER_PIXEL)
    total: Tensor = _BandwiseSum.apply(bands, _visual(weights, prediction.features), *layers)
    return total / num_valid


def loss_on_pixels(
    head: PixelAnomalyHead, prediction: Prediction, labels_hw: tuple[int, int], pixels: PixelSample,
    pos_weight: float, num_valid: float,
) -> Tensor:  # fmt: skip
    """Sum the weighted losses of drawn pixels, divided by ``num_valid``.

    Args:
        head: in training mode with dropout, in eval mode without.
        prediction: of the frozen network, B crops, any floating type.
        labels_hw: size of the crops in pixels.
        pixels: drawn by :func:`~eomt_ext_training.head.pixel_sampling.draw_pixels`.
        pos_weight: weight of anomalous pixels.
        num_valid: number of valid pixels of the crops; the result is then an unbiased estimate of their mean loss.

    Returns:
        a scalar.
    """
    logits = logits_at(head, prediction, labels_hw, pixels.position)
    return (pixel_losses(logits, pixels.labels, pos_weight) * pixels.weight).sum() / num_valid


def logits_at(head: PixelAnomalyHead, prediction: Prediction, image_hw: tuple[int, int], position: Tensor) -> Tensor:
    """Compute the anomaly logits (B, P) of pixels at positions (B, P), row·W + column."""
    weights = FactoredWeights.of(head, copy=False)
    visual = _visual(weights, prediction.features)
    dropout = head.config.dropout if head.training else 0.0
    masks = bilinear_at(prediction.mask_logits.float().permute(0, 2, 3, 1), image_hw, position).sigmoid()
    semantic = masks @ _class_probs(prediction.class_logits)
    return _pixel_logits(weights, semantic, bilinear_at(visual, image_hw, position), dropout)


def bilinear_at(maps: Tensor, image_hw: tuple[int, int], position: Tensor) -> Tensor:
    """Compute ``interpolate(mode="bilinear", align_corners=False)`` at some pixels only.

    Args:
        maps: (B, h, w, C).
        image_hw: (H, W) of the resized maps.
        position: (B, P) int64, row·W + column in (H, W).

    Returns:
        (B, P, C).
    """
    batch, height, width, channels = maps.shape
    above, below, row_weight = _neighbours(position // image_hw[1], height, image_hw[0])
    left, right, column_weight = _neighbours(position % image_hw[1], width, image_hw[1])
    offset = torch.arange(batch, device=position.device)[:, None] * (height * width)
    corners = torch.stack([offset + y * width + x for y in (above, below) for x in (left, right)], dim=-1)
    weights = torch.stack([a * b for a in (1 - row_weight, row_weight) for b in (1 - column_weight, column_weight)], -1)
    table = maps.reshape(-1, channels)
    bags = F.embedding_bag(
        corners.flatten(0, 1), table, mode="sum", per_sample_weights=weights.flatten(0, 1).to(table.dtype)
    )
    return bags.view(batch, -1, channels)


def _neighbours(position: Tensor, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the rows (or columns) of the source beside the centre of a target pixel, and the weight of the second."""
    centre = ((position.float() + 0.5) * (source / target) - 0.5).clamp_(min=0.0)
    first = centre.long().clamp_(max=source - 1)
    return first, (first + 1).clamp_(max=source - 1), (centre - first).clamp_(0.0, 1.0)


def _visual(weights: FactoredWeights, features: Tensor) -> Tensor:
    """Compute the features' part of the first layer: float32 even with autocast, for the interpolation."""
    return weights.project(features.to(weights.visual.dtype)).float()


def _class_probs(class_logits: Tensor) -> Tensor:
    return class_logits.float().softmax(dim=-1)[..., :-1]


def _pixel_logits(weights: FactoredWeights, semantic: Tensor, visual: Tensor, dropout: float) -> Tensor:
    """Apply the remaining layers of the head: (…, C) and (…, hidden) to (…)."""
    with torch.autocast(semantic.device.type, enabled=False):  # an entropy in half precision is too inexact
        statistics = channels_last_statistics(semantic.float())
    return weights.logits(statistics, visual, lambda hidden: _drop(hidden, dropout))[..., 0].float()


def _drop(hidden: Tensor, rate: float) -> Tensor:
    """Dropout with 16 random bits for each element: on a CPU torch draws a double, which takes a third of a step."""
    if rate == 0.0 or hidden.is_cuda:
        return F.dropout(hidden, rate)
    dropped = round(rate * 2**16)
    bits = torch.empty((hidden.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: hidden.numel()].view(hidden.shape) >= dropped - 2**15
    return hidden * kept.to(hidden.dtype).mul_(2**16 / (2**16 - dropped))


class _Bands:
    """Compute the loss of each crop in bands of rows."""

    def __init__(
        self, weights: FactoredWeights, prediction: Prediction, labels: Tensor, pos_weight: float, dropout: float
    ) -> None:
        self._weights, self._prediction, self._labels = weights, prediction, labels
        self._pos_weight, self._dropout = pos_weight, dropout

    def __call__(self, image: int, visual: Tensor, layers: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the sum of the loss over each band of a crop, from its visual part (h, w, hidden)."""
        weights = replace(self._weights, **dict(zip(_PER_PIXEL, layers, strict=True)))
        labels = self._labels[image]
        size_hw = (labels.shape[0], labels.shape[1])
        masks = self._prediction.mask_logits[image].float().permute(1, 2, 0).contiguous()
        classes = _class_probs(self._prediction.class_logits[image])
        mask_rows, visual_rows = BilinearRows(masks[None], size_hw), BilinearRows(visual[None], size_hw)
        band_floats = GPU_BAND_FLOATS if labels.is_cuda else CPU_BAND_FLOATS
        rows = max(1, band_floats // (size_hw[1] * (masks.shape[-1] + 2 * visual.shape[-1])))
        for start in range(0, size_hw[0], rows):
            stop = min(start + rows, size_hw[0])
            with torch.no_grad():
                semantic = mask_rows(start, stop)[0].sigmoid_() @ classes
            logits = _pixel_logits(weights, semantic, visual_rows(start, stop)[0], self._dropout)
            yield pixel_losses(logits, labels[start:stop], self._pos_weight).sum()


def _without_float16(device_type: str) -> torch.autocast:
    """Keep autocast, but switch it off for float16, which would overflow in sums over the pixels of a band."""
    enabled = torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) != torch.float16
    return torch.autocast(device_type, enabled=enabled)


class _BandwiseSum(torch.autograd.Function):
    """Add up the losses of bands, with their gradients, so that the activations of only one band exist at a time."""

    @staticmethod
    def forward(ctx: Any, bands: _Bands, visual: Tensor, *layers: Tensor) -> Tensor:
        track = any(ctx.needs_input_grad)
        leaves = [layer.detach().requires_grad_(track) for layer in layers]
        maps = [image.detach().requires_grad_(track) for image in visual.unbind(0)]
        total = torch.zeros((), device=visual.device)
        with torch.set_grad_enabled(track), _without_float16(visual.device.type):
            for image, visual_map in enumerate(maps):
                for loss in bands(image, visual_map, leaves):
                    total += loss.detach()
                    if track:
                        loss.backward()  # type: ignore[no-untyped-call]
        if track:
            gradients = [leaf.grad for leaf in (*maps, *leaves) if leaf.grad is not None]  # every leaf is used
            ctx.save_for_backward(torch.stack(gradients[: len(maps)]), *gradients[len(maps) :])
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * saved for saved in ctx.saved_tensors)
