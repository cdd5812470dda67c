"""Replaying what a GPU does for a batch as one CUDA graph, instead of launching its hundreds of kernels one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.backends.cudnn import cudnn_settings

WARM_UPS = 3  # before a capture: libraries choose their algorithms, kernels are compiled, caches are filled

ScoreBatch = Callable[[Tensor, Sequence[str]], Tensor]


class GraphedScores:
    """Runs a function of windows and names of scores as CUDA graphs, captured when a size or a score is new.

    Inputs and outputs have their own fixed memory; what lies between them is shared by all graphs, which never run at
    the same time.

    Args:
        function: (N, 3, h, w) windows and names to scores of shape (N, …), each window for itself. It may neither wait
            for the device nor depend on anything else that changes.
        device: a CUDA device.
    """

    def __init__(self, function: ScoreBatch, device: torch.device) -> None:
        self._function = function
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[int, tuple[str, ...]], _CapturedScores] = {}

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """The function's result, valid until the next call."""
        key = padded_size(len(crops)), tuple(scores)
        with torch.cuda.device(self._device):
            if key not in self._graphs:
                example = crops.new_zeros((key[0], *crops.shape[1:]))
                self._graphs[key] = _CapturedScores(
                    lambda batch: self._function(batch, key[1]), example, self._pool, self._stream
                )
            return self._graphs[key].replay(crops)

    def clear(self) -> None:
        """Let go of all graphs and their memory; they are captured anew when they are needed."""
        torch.cuda.synchronize(self._device)
        self._graphs.clear()
        self._pool = torch.cuda.graph_pool_handle()


def padded_size(size: int) -> int:
    """The size of the graph that a batch runs in: at most a third of it is padding, and few sizes are enough.

    >>> [padded_size(size) for size in range(1, 14)]
    [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]
    """
    power = 1 << (size - 1).bit_length()
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power


def padded_sizes(most: int) -> list[int]:
    """Sizes of the graphs that batches of up to ``most`` run in, the largest first: the others then fit its memory.

    >>> padded_sizes(7)
    [8, 6, 4, 3, 2, 1]
    """
    return sorted({padded_size(size) for size in range(1, most + 1)}, reverse=True)


class _CapturedScores:
    """One graph with its input and its output.

    The stream is one of the input's device: that of torch's own choice is on whichever device a graph came first.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], example: Tensor, pool: Any, stream: torch.cuda.Stream
    ) -> None:
        self._input = example
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), cudnn_settings(benchmark=True):
            for _ in range(WARM_UPS):
                function(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may use the device meanwhile, such as one that asks how much memory is in use.
            with (
                cudnn_settings(benchmark=True),
                torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"),
            ):
                self._output = function(self._input)
        except RuntimeError as error:
            if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
                raise error.__context__ from None  # and not that the capture could not be ended
            raise

    def replay(self, crops: Tensor) -> Tensor:
        self._input[: len(crops)].copy_(crops)
        self._graph.replay()
        return self._output[: len(crops)]
