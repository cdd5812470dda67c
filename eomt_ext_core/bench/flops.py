"""Floating-point operations of a frame, and the highest rate of the machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from eomt_ext_core.backends.device import DTYPES
from eomt_ext_core.bench.clock import synchronize
from eomt_ext_core.kernels.packed_linear import PackedLinear, packs
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.factored import FactoredHead

_SIDE = {"cpu": 2048, "cuda": 8192}


@torch.no_grad()
def count_window_flops(model: EoMTExt) -> tuple[int, int]:
    """Count the floating-point operations of one window, in the network and in the factored head.

    Matrix products, convolutions and attention count, an addition and a multiplication as two; elementwise work does
    not. The network is traced on shapes alone, so nothing is computed.

    Raises:
        ValueError: if the model has no anomaly head.
    """
    if model.anomaly_head is None:
        raise ValueError("counting the operations of a head needs a model with an anomaly head")
    traced = copy.deepcopy(model).to("meta")
    crop_hw = model.config.crop_hw
    with FlopCounterMode(display=False) as network:
        masks, classes, features = traced(torch.empty(1, 3, *crop_hw, device="meta"))
    head = FactoredHead(traced.anomaly_head)  # type: ignore[arg-type]  # a copy of a model that has one
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flops}) as scoring:
        head(masks, classes, crop_hw, features)
    return network.get_total_flops(), scoring.get_total_flops()


def _addmm_flops(_: Any, left: tuple[int, int], right: tuple[int, int], **__: Any) -> int:
    """Count ``addmm_``, as torch counts only ``addmm``."""
    return 2 * left[0] * left[1] * right[1]


class MatrixCeiling:
    """The rate of multiplying two large square matrices, an upper bound for the rate of a frame.

    On a CPU it is the higher rate of torch's product and of the engine's packed one, if there is that.

    Args:
        device: to run on.
        precision: ``fp32`` or ``bf16``.
        side: of the matrices; by default large enough for the full speed of a CPU or GPU.
    """

    def __init__(self, device: torch.device, precision: str, side: int | None = None) -> None:
        side = side or _SIDE[device.type]
        self._device = device
        self._flops = 2 * side**3
        dtype = DTYPES[precision]
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        out = left @ right
        self._products: list[Callable[[], Tensor]] = [lambda: torch.mm(left, right, out=out)]
        if device.type == "cpu" and packs(dtype):
            packed = PackedLinear(right.T, None)
            self._products.append(lambda: packed(left))

    def flops_per_s(self, times: int = 3) -> float:
        """Measure the rate, the best of several runs of each product."""
        best_s = float("inf")
        for product in self._products * times:
            synchronize(self._device)
            start = time.perf_counter()
            product()
            synchronize(self._device)
            best_s = min(best_s, time.perf_counter() - start)
        return self._flops / best_s
