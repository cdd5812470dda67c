"""Scoring of windows by torch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.backends.blocked_attention import BlockedAttention
from eomt_ext_core.backends.cuda_graphs import GraphedScores, ScoreBatch, padded_sizes
from eomt_ext_core.backends.cudnn import cudnn_settings
from eomt_ext_core.backends.device import DTYPES, limit_threads
from eomt_ext_core.backends.inference_network import inference_network
from eomt_ext_core.backends.packing import pack_linear_layers
from eomt_ext_core.backends.parts import choose_ways
from eomt_ext_core.backends.window_scorer import CPU_BATCH, DISTANCE, GPU_BATCH, SEMANTIC, class_names_of
from eomt_ext_core.kernels.choice import obstacle_to_triton
from eomt_ext_core.model.eomt import Prediction
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.normality.normality import Normality
from eomt_ext_core.processor import has_tiles
from eomt_ext_core.scoring.factored import CPU_BAND_FLOATS, GPU_BAND_FLOATS
from eomt_ext_core.scoring.head_scorer import HeadScorer, make_head_scorer
from eomt_ext_core.scoring.semantic_bands import semantic_bands
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_score

_WINDOWS_OF_CHOICE = 2  # of an image of a camera
_COMPILED_SIZES = 64  # more than there are graphs; torch's default is 8

_log = logging.getLogger(__name__)


class TorchWindowScorer:
    """A model in torch as a :class:`~eomt_ext_core.backends.window_scorer.WindowScorer`.

    Args:
        model: from :func:`~eomt_ext_core.model.checkpoint.load_model`; does not change.
        device: to run on.
        precision: ``fp32``, ``bf16`` or ``fp16``: the type of the network's weights and activations.
        optimize: ``none``, ``compile`` or ``graph`` (only on a GPU).
        score_stride: 1, 2 or 4: score every pixel, or every 2nd or 4th of each row and column.
        normality: what a drive taught, for the scores ``normality`` and ``fused``.

    Attributes:
        head: computes the logits from predictions; None if the model has no head.
        normality: what a drive taught; None without.
    """

    def __init__(
        self,
        model: EoMTExt,
        device: torch.device,
        precision: str = "fp32",
        optimize: str = "none",
        score_stride: int = 1,
        normality: Normality | None = None,
    ) -> None:
        self.crop_hw, self.num_classes = model.config.crop_hw, model.config.num_classes
        self.class_names = class_names_of(model.info, self.num_classes)
        self.normality = normality
        heads = () if model.anomaly_head is None else ("head",)
        self._readings = {} if normality is None else dict(normality.readings)
        if model.anomaly_head is None:
            self._readings.pop("fused", None)
        self._distance = None if normality is None else normality.distance.to(device)
        drive = () if normality is None else (*self._readings, DISTANCE)
        self.scores = (*heads, *BASELINES, *drive, SEMANTIC)
        self.info = model.info
        self.device, self.precision = device, precision
        on_gpu = device.type == "cuda"
        if not on_gpu:
            limit_threads()
        self.max_batch = GPU_BATCH if on_gpu else CPU_BATCH
        self._optimize, self._stride = optimize, score_stride
        self._ways: dict[str, str] = {}
        self._network = inference_network(model.network, device, DTYPES[precision])
        if optimize == "compile":
            self._network.compile(fullgraph=True, dynamic=False)
        elif not on_gpu and pack_linear_layers(self._network):
            self._ways = {"Linear": "packed"}
        else:
            self._ways = self._choose_ways()
        self.head: HeadScorer | None = None
        if model.anomaly_head is not None:
            self.head = make_head_scorer(copy.deepcopy(model.anomaly_head).to(device, torch.float32), device)
        self._graphs = GraphedScores(self._score, device) if on_gpu and optimize != "none" else None
        self._tunes = on_gpu and self._graphs is None  # kernels, in the first call of each size
        self._tuned: set[tuple[int, tuple[str, ...]]] = set()
        self._run: ScoreBatch = self._graphs or self._score

    @torch.inference_mode()
    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows: see the protocol."""
        return self._run(crops, scores)

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        return {
            "backend": "torch",
            "optimize": self._optimize,
            "scoring": "baselines only" if self.head is None else f"{self.head.name} ({self.head.reason})",
            "score_stride": str(self._stride),
            **({"parts": ", ".join(f"{part} {way}" for part, way in self._ways.items())} if self._ways else {}),
        }

    def _choose_ways(self) -> dict[str, str]:
        """Choose how parts of the network are computed in 16 bits; a compiler chooses by itself."""
        if self.precision == "fp32" or obstacle_to_triton(self.device) is not None:
            return {}
        windows = torch.randint(0, 256, (_WINDOWS_OF_CHOICE, 3, *self.crop_hw), dtype=torch.uint8, device=self.device)
        with torch.cuda.device(self.device):
            return choose_ways(self._network, lambda: self.predict(windows), self.device)

    def warm_up(self, scores: Sequence[str], batch: int) -> int:
        """Capture the CUDA graphs if it uses them, else choose kernels on a GPU: see the protocol."""
        sizes = self._sizes(batch)
        if not sizes:
            return batch
        fitting = 1
        for size in sizes:
            try:
                self(torch.zeros((size, 3, *self.crop_hw), dtype=torch.uint8, device=self.device), scores)
                self._tuned.add((size, tuple(scores)))
                fitting = max(fitting, min(size, batch))
                continue
            except torch.cuda.OutOfMemoryError:
                pass  # the exception holds memory until this block ends
            _log.warning(
                "%d windows at a time do not fit into the memory of %s: lower batch_windows", size, self.device
            )
            self.free_memory()
            fitting = 1  # as the larger graphs are gone too
            torch.cuda.empty_cache()
        return fitting

    def _sizes(self, batch: int) -> Sequence[int]:
        """List the sizes of up to ``batch`` windows whose first call is slow, largest first."""
        if self._graphs is not None:
            return padded_sizes(batch)
        return range(batch, 0, -1) if self._tunes else ()

    def is_warm(self, scores: Sequence[str], batch: int) -> bool:
        """Look whether the CUDA graphs are captured, or kernels chosen: see the protocol."""
        if self._graphs is not None:
            return all(self._graphs.has(size, scores) for size in padded_sizes(batch))
        return all((size, tuple(scores)) in self._tuned for size in self._sizes(batch))

    def free_memory(self) -> None:
        """Free the CUDA graphs: see the protocol."""
        if self._graphs is not None:
            self._graphs.clear()

    @torch.inference_mode()
    def predict(self, crops: Tensor) -> Prediction:
        """Run only the network on (N, 3, h, w) uint8 windows; the prediction has the type of the precision."""
        exact = {"allow_tf32": False} if self.precision == "fp32" else {}
        with cudnn_settings(**exact), self._compiling(), self._attending():
            prediction: Prediction = self._network(crops)
            return prediction

    def _attending(self) -> AbstractContextManager[object]:
        blocked = self.device.type == "cpu" and self.precision == "bf16" and self._optimize == "none"
        return BlockedAttention() if blocked and not has_tiles() else nullcontext()

    def _compiling(self) -> AbstractContextManager[object]:
        if self._optimize != "compile":
            return nullcontext()
        from torch._dynamo import config  # slow to import

        # newer versions call it recompile_limit, and still accept this name
        return cast(AbstractContextManager[object], config.patch(cache_size_limit=_COMPILED_SIZES))

    def _score(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        masks, classes, features = self.predict(crops)
        size_hw = (self.crop_hw[0] // self._stride, self.crop_hw[1] // self._stride)
        maps: dict[str, Tensor] = {}
        if self.head is not None and not {"head", "fused"}.isdisjoint(scores):
            maps["head"] = self.head(masks, classes, size_hw, features).permute(0, 3, 1, 2)
        if self._distance is not None and not {*self._readings, DISTANCE}.isdisjoint(scores):
            distance = F.interpolate(self._distance(features), size_hw, mode="bilinear", align_corners=False)
            maps[DISTANCE] = distance
            for name in self._readings.keys() & set(scores):
                maps[name] = self._readings[name](maps.get("head"), distance)
        others = [score for score in scores if score not in maps]
        if others:
            channels = [self.num_classes if score == SEMANTIC else 1 for score in others]
            stacked = masks.new_empty((len(masks), sum(channels), *size_hw), dtype=torch.float32)
            for window in range(len(masks)):
                one = slice(window, window + 1)
                _of_semantic(masks[one].float(), classes[one].float(), others, stacked[one])
            maps.update(zip(others, torch.split(stacked, channels, dim=1), strict=True))
        result = maps[scores[0]] if len(scores) == 1 else torch.cat([maps[score] for score in scores], dim=1)
        if self._stride > 1:
            result = F.interpolate(result, self.crop_hw, mode="bilinear", align_corners=False)
        return result


def _of_semantic(masks: Tensor, classes: Tensor, scores: Sequence[str], result: Tensor) -> None:
    """Fill the result of a window, (1, K, h, w), with its semantic map and baselines."""
    band_floats = GPU_BAND_FLOATS if result.is_cuda else CPU_BAND_FLOATS
    rows = max(1, band_floats // (result.shape[3] * (classes.shape[1] + classes.shape[2])))
    for band, channels_last in semantic_bands(masks, classes, (result.shape[2], result.shape[3]), rows):
        semantic = channels_last.permute(0, 3, 1, 2)
        parts = [semantic if score == SEMANTIC else baseline_score(semantic, score)[:, None] for score in scores]
        result[:, :, band] = torch.cat(
            parts, dim=1
        )  # cat(out=view) of a single part leaves a small view unwritten (torch 2.15)
