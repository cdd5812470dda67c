"""Windows scored by torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from eomt_ext_core.backends.cuda_graphs import GraphedScores, ScoreBatch
from eomt_ext_core.backends.device import DTYPES, limit_threads
from eomt_ext_core.backends.inference_network import inference_network
from eomt_ext_core.backends.window_scorer import SEMANTIC, class_names_of
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.head_scorer import HeadScorer, make_head_scorer
from eomt_ext_core.scoring.uncertainty import BASELINES, baseline_score, semantic_map

_GPU_BATCH = 256
_CPU_BATCH = 1  # one window keeps all cores busy, and its activations stay small


class TorchWindowScorer:
    """A model in torch as a :class:`~eomt_ext_core.backends.window_scorer.WindowScorer`. The model is left as it is.

    Args:
        model: from :func:`~eomt_ext_core.model.checkpoint.load_model`.
        device: where it runs.
        precision: ``fp32``, ``bf16`` or ``fp16``: the type of the network's weights and activations.
        optimize: ``none``, ``compile`` or ``graph`` (only on a GPU).
        score_stride: 1, 2 or 4: every pixel is scored, or every 2nd or 4th of each row and column.
    """

    def __init__(
        self,
        model: EoMTExt,
        device: torch.device,
        precision: str = "fp32",
        optimize: str = "none",
        score_stride: int = 1,
    ) -> None:
        self.crop_hw, self.num_classes = model.config.crop_hw, model.config.num_classes
        self.class_names = class_names_of(model.info, self.num_classes)
        self.scores = (*(() if model.anomaly_head is None else ("head",)), *BASELINES, SEMANTIC)
        self.info = model.info
        self.device, self.precision = device, precision
        on_gpu = device.type == "cuda"
        if not on_gpu:
            limit_threads()
        self.max_batch = _GPU_BATCH if on_gpu else _CPU_BATCH
        self._optimize, self._stride = optimize, score_stride
        self._network = inference_network(model.network, device, DTYPES[precision])
        if optimize == "compile":
            self._network.compile(fullgraph=True, dynamic=False)
        self._head: HeadScorer | None = None
        if model.anomaly_head is not None:
            self._head = make_head_scorer(copy.deepcopy(model.anomaly_head).to(device, torch.float32), device)
        self._graphs = GraphedScores(self._score, device) if on_gpu and optimize != "none" else None
        self._run: ScoreBatch = self._graphs or self._score

    @torch.inference_mode()
    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows: see the protocol."""
        return self._run(crops, scores)

    def describe(self) -> dict[str, str]:
        """What an operator wants to know: see the protocol."""
        return {
            "backend": "torch",
            "optimize": self._optimize,
            "scoring": "baselines only" if self._head is None else f"{self._head.name} ({self._head.reason})",
            "score_stride": str(self._stride),
        }

    def free_memory(self) -> None:
        """Give up the CUDA graphs: see the protocol."""
        if self._graphs is not None:
            self._graphs.clear()

    def _score(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        masks, classes, features = self._network(crops.float() / 255)
        size_hw = (self.crop_hw[0] // self._stride, self.crop_hw[1] // self._stride)
        maps: dict[str, Tensor] = {}
        if "head" in scores and self._head is not None:
            maps["head"] = self._head(masks, classes, size_hw, features).permute(0, 3, 1, 2)
        others = [score for score in scores if score != "head"]
        if others:  # one window at a time: the masks of all queries at every pixel are the largest tensor of all
            singles = zip(torch.split(masks.float(), 1), torch.split(classes.float(), 1), strict=True)
            stacked = torch.cat([_of_semantic(semantic_map(*single, size_hw), others) for single in singles])
            channels = [self.num_classes if score == SEMANTIC else 1 for score in others]
            maps.update(zip(others, torch.split(stacked, channels, dim=1), strict=True))
        result = torch.cat([maps[score] for score in scores], dim=1)
        if self._stride > 1:
            result = F.interpolate(result, self.crop_hw, mode="bilinear", align_corners=False)
        return result


def _of_semantic(semantic: Tensor, scores: Sequence[str]) -> Tensor:
    """(1, C, h, w) to (1, K, h, w): the map itself, or baselines of it."""
    return torch.cat(
        [semantic if score == SEMANTIC else baseline_score(semantic, score)[:, None] for score in scores], dim=1
    )
