"""The program of an exported file: from uint8 windows to the scores of every pixel."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.bilinear import BilinearRows
from eomt_ext_core.scoring.factored_weights import FactoredWeights, channels_last_statistics
from eomt_ext_core.scoring.semantic_bands import semantic_bands
from eomt_ext_core.scoring.uncertainty import baseline_score

# Most activations of a window at a time; the graph repeats the scoring for each band of rows.
BAND_FLOATS = 1 << 24

_WEIGHTS = tuple(item.name for item in fields(FactoredWeights))


class ScoringProgram(nn.Module):
    """Network and scoring as one graph, for any number of windows.

    Args:
        model: does not change.
        outputs: names of ``config.SCORES`` and ``SEMANTIC``, each once; ``head`` only if the model has one.
        half: run the network in float16; the scoring is always in float32.
        score_stride: 1, 2 or 4: score every pixel, or every 2nd or 4th of each row and column and resize.
    """

    def __init__(self, model: EoMTExt, outputs: Sequence[str], *, half: bool = False, score_stride: int = 1) -> None:
        super().__init__()
        self.outputs = tuple(outputs)
        self.crop_hw = model.config.crop_hw
        self._size_hw = (self.crop_hw[0] // score_stride, self.crop_hw[1] // score_stride)
        self._dtype = torch.float16 if half else torch.float32
        self.network = copy.deepcopy(model.network).to("cpu", self._dtype)
        self.head: _FactoredLayers | None = None
        width = model.config.num_queries + model.config.num_classes
        if "head" in self.outputs and model.anomaly_head is not None:
            self.head = _FactoredLayers(copy.deepcopy(model.anomaly_head).to("cpu", torch.float32))
            width += model.anomaly_head.config.hidden_dim
        self._rows = max(1, BAND_FLOATS // (self._size_hw[1] * width))
        self.requires_grad_(False).eval()

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Score windows.

        Args:
            crops: (N, 3, h, w) uint8.

        Returns:
            (N, 1, h, w) float32 for each score, as in ``WindowScorer``; (N, C, h, w) for ``SEMANTIC``.
        """
        masks, classes, features = (part.float() for part in self.network(crops.to(self._dtype) / 255))
        visual_rows = None if self.head is None else BilinearRows(self.head.project(features), self._size_hw)
        bands: list[list[Tensor]] = [[] for _ in self.outputs]
        for band, semantic in semantic_bands(masks, classes, self._size_hw, self._rows):
            for parts, output in zip(bands, self.outputs, strict=True):
                if self.head is not None and visual_rows is not None and output == "head":
                    parts.append(self.head(semantic, visual_rows(band.start, band.stop)))
                elif output == SEMANTIC:
                    parts.append(semantic.permute(0, 3, 1, 2))
                else:
                    parts.append(baseline_score(semantic.permute(0, 3, 1, 2), output)[:, None])
        return tuple(self._at_crop_size(torch.cat(parts, dim=2)) for parts in bands)

    def _at_crop_size(self, score: Tensor) -> Tensor:
        if self._size_hw == self.crop_hw:
            return score
        return F.interpolate(score, self.crop_hw, mode="bilinear", align_corners=False)


class _FactoredLayers(nn.Module):
    """A traceable :class:`~eomt_ext_core.scoring.factored.FactoredHead`: no writes in place, no loop over the batch."""

    def __init__(self, head: PixelAnomalyHead) -> None:
        super().__init__()
        weights = FactoredWeights.of(head)
        for name in _WEIGHTS:
            self.register_buffer(name, getattr(weights, name))

    def _weights(self) -> FactoredWeights:
        return FactoredWeights(*(getattr(self, name) for name in _WEIGHTS))

    def project(self, features: Tensor) -> Tensor:
        """Map features (N, C, h', w') to their part of the first layer, (N, h', w', hidden)."""
        return self._weights().project(features)

    def forward(self, semantic: Tensor, visual: Tensor) -> Tensor:
        """Map (N, rows, W, C) and (N, rows, W, hidden) to anomaly logits (N, 1, rows, W)."""
        return self._weights().logits(channels_last_statistics(semantic), visual).permute(0, 3, 1, 2)


def trace(program: ScoringProgram, batch: int, device: torch.device) -> torch.export.ExportedProgram:
    """Trace the program to a graph.

    Args:
        program: moved to ``device``.
        batch: windows in each call, or 0 for any number.
        device: of the graph.
    """
    crops = torch.zeros((batch or 2, 3, *program.crop_hw), dtype=torch.uint8, device=device)
    dynamic = None if batch else ({0: torch.export.Dim("windows", min=1)},)
    return torch.export.export(program.to(device), (crops,), dynamic_shapes=dynamic)
