"""The scoring of windows at published sizes: its error beside float64, and its time for each window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_parts.setting import Setting
from benchmarks.gpu_parts.timing import device_us
from eomt_ext_core.config import HeadConfig
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead
from eomt_ext_core.scoring.factored import FactoredHead
from eomt_ext_core.scoring.head_scorer import HeadScorer
from eomt_ext_core.scoring.uncertainty import semantic_map, statistics

_WINDOWS = 2
_LEAN_CHANNELS = 768  # of the case whose classes the lean kernel takes
# Channels of the features, queries, classes: ViT-B with the classes of Cityscapes, ViT-L with those of ADE20K.
_CASES = {"base, 19 classes": (768, 100, 19), "large, 150 classes": (1024, 100, 150)}


@torch.no_grad()
def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    cases = {"tiny": (24, 7, 5)} if setting.quick else _CASES
    side = 32 if setting.quick else 640
    for name, sizes in cases.items():
        for found in _case(setting, *sizes, side):
            yield {name: found}


def _case(setting: Setting, channels: int, queries: int, classes: int, side: int) -> Iterator[dict[str, Any]]:
    """Give the figures of a case, more of them each time, those of the usual precision first."""
    device = setting.torch_device
    torch.manual_seed(0)
    head = PixelAnomalyHead(channels, HeadConfig(feature_proj_dim=None)).eval().to(device)
    masks = 6 * torch.randn(_WINDOWS, side // 4, side // 4, queries, device=device) - 2 * math.log(queries)
    masks = masks.permute(0, 3, 1, 2)  # channels last, as the network gives them
    class_logits = 4 * torch.randn(_WINDOWS, queries, classes + 1, device=device)
    features = torch.randn(_WINDOWS, side // 16, side // 16, channels, device=device).permute(0, 3, 1, 2)
    found: dict[str, Any] = {}
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        inputs = masks.to(dtype), class_logits.to(dtype), (side, side), features.to(dtype)
        exact = _exact(head, *inputs)
        for name, scorer in _scorers(head, setting, dtype):
            logits = scorer(*inputs)
            found[f"{name}, {str(dtype).removeprefix('torch.')}"] = {
                "largest_logit_error": float((logits - exact).abs().max()),
                "largest_probability_error": float((logits.double().sigmoid() - exact.sigmoid()).abs().max()),
                "us_per_window": device_us(lambda: scorer(*inputs), device) / _WINDOWS,  # noqa: B023
            }
            yield found


def _exact(
    head: PixelAnomalyHead, masks: Tensor, classes: Tensor, size_hw: tuple[int, int], features: Tensor
) -> Tensor:
    """Compute the logits literally in float64, one window at a time."""
    double = PixelAnomalyHead(head.feature_dim, head.config).to(masks.device).double().eval()
    double.load_state_dict(head.state_dict())
    logits = []
    for window in range(len(masks)):
        one = slice(window, window + 1)
        stacked = statistics(semantic_map(masks[one].double(), classes[one].double(), size_hw))
        logits.append(double(stacked, features[one].double()))
    return torch.cat(logits)


def _scorers(head: PixelAnomalyHead, setting: Setting, dtype: torch.dtype) -> Iterator[tuple[str, HeadScorer]]:
    yield "torch", FactoredHead(head)
    if setting.on_gpu:
        from eomt_ext_core.scoring.fused_kernel import HALF_TILES
        from eomt_ext_core.scoring.fused_triton import FusedHead
        from eomt_ext_core.scoring.lean_kernel import LEAN_TILES

        yield "triton", FusedHead(head)
        if dtype == torch.bfloat16:
            yield from ((f"triton, tile {index}", FusedHead(head, tile=tile)) for index, tile in enumerate(HALF_TILES))
            if head.feature_dim == _LEAN_CHANNELS:
                tiles = enumerate(LEAN_TILES)
                yield from ((f"triton, lean tile {index}", FusedHead(head, tile=tile)) for index, tile in tiles)
