"""Ours beside other ways in one process: the literal pipeline, Transformers' network, and the official compiled one."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_parts.setting import Setting, images
from benchmarks.gpu_parts.timing import event_us, wall_ms
from eomt_ext_core.bench.clock import StageClock, synchronize
from eomt_ext_core.bench.variants.pipelines import make_pipelines

_ROUND = 10  # frames of a variant before the turn of the next
_WAYS = ("literal-fp32", "literal-bf16", "transformers-fp32", "transformers-bf16", "ours-fp32", "ours-bf16")


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time frames of each way, taking turns, and compare their probabilities with the literal ones."""
    with _without_scipy():
        ways = {way: make_pipelines(way, setting.model(setting.main), setting.torch_device).whole for way in _WAYS}
    yield {"model": setting.main}
    for image_hw in setting.images_hw:
        image, times, last = images(image_hw)[0], defaultdict(list), {}

        def run(way: str) -> None:
            last[way] = ways[way](image, StageClock(setting.torch_device))  # noqa: B023
            synchronize(setting.torch_device)

        for way in ways:
            run(way)
        for _ in range(max(1, setting.turns // _ROUND)):
            for way in ways:
                for _ in range(1 if setting.quick else _ROUND):
                    times[way].append(wall_ms(lambda: run(way)))  # noqa: B023
        reference = last[_WAYS[0]]
        found = {
            way: {
                "p50_ms": statistics.median(times[way]),
                "largest_difference": None if last[way] is None else float(np.abs(last[way] - reference).max()),
            }
            for way in ways
        }
        yield {f"{image_hw[1]}x{image_hw[0]}": found}


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Let Transformers make its network without scipy, which only its loss needs."""
    from transformers.models.eomt import modeling_eomt

    with nullcontext() if find_spec("scipy") else patch.object(modeling_eomt, "requires_backends"):
        yield


@torch.inference_mode()
def measure_official(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the bare network, compiled as EoMT's authors do, and ours on the same windows with the scoring."""
    model, dtype = setting.model(setting.main), torch.bfloat16
    network = model.network.to(setting.torch_device, dtype).eval()
    mode = {"backend": "eager"} if setting.quick else {"mode": "max-autotune"}
    compiled = torch.compile(network, fullgraph=True, dynamic=False, **mode)
    scorer = setting.engine(setting.main).scorer
    yield {"model": setting.main}
    for count in (2, 1):
        pixels = torch.rand((count, 3, *model.config.crop_hw), device=setting.device, dtype=dtype)
        crops = (255 * pixels).byte()
        for _ in range(1 if setting.quick else 5):
            compiled(pixels)
        found = {
            "compiled_network_ms": event_us(lambda: compiled(pixels), setting.torch_device) / 1000,  # noqa: B023
            "ours_network_and_scoring_ms": event_us(lambda: scorer(crops, ("head",)), setting.torch_device) / 1000,  # noqa: B023
        }
        yield {f"{count} windows": found}
