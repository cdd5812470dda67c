"""CUDA graphs: replay all kernels of a batch at once, instead of launching hundreds of them one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eomt_ext_core.backends.cudnn import cudnn_settings

WARM_UPS = 3  # before a capture, in which libraries choose algorithms, kernels compile and caches fill

ScoreBatch = Callable[[Tensor, Sequence[str]], Tensor]


class GraphedScores:
    """Run a scoring function as CUDA graphs, one for each batch size and choice of scores, captured on first use.

    Inputs and outputs have their own fixed memory; all graphs share the memory between, as they never run at the same
    time.

    Args:
        function: maps windows (N, 3, h, w) and names to scores (N, …), independently for each window. It must not wait
            for the device, nor depend on anything else that changes.
        device: a CUDA device.
    """

    def __init__(self, function: ScoreBatch, device: torch.device) -> None:
        self._function = function
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[int, tuple[str, ...]], _CapturedScores] = {}

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Return the result of the function, valid until the next call."""
        key = padded_size(len(crops)), tuple(scores)
        with torch.cuda.device(self._device):
            if key not in self._graphs:
                example = crops.new_zeros((key[0], *crops.shape[1:]))
                self._graphs[key] = _CapturedScores(
                    lambda batch: self._function(batch, key[1]), example, self._pool, self._stream
                )
            return self._graphs[key].replay(crops)

    def has(self, size: int, scores: Sequence[str]) -> bool:
        """Whether a batch of so many windows replays a graph that is captured already."""
        return (padded_size(size), tuple(scores)) in self._graphs

    def clear(self) -> None:
        """Free all graphs and their memory; they are captured again on next use."""
        torch.cuda.synchronize(self._device)
        self._graphs.clear()
        self._pool = torch.cuda.graph_pool_handle()


def padded_size(size: int) -> int:
    """Return the size of the graph for a batch: few sizes, of which at most a third is padding.

    >>> [padded_size(size) for size in range(1, 14)]
    [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]
    """
    power = 1 << (size - 1).bit_length()
    return 3 * power // 4 if power >= 4 and size <= 3 * power // 4 else power


def padded_sizes(most: int) -> list[int]:
    """List the sizes of graphs for up to ``most`` windows, largest first: the others then fit into its memory.

    >>> padded_sizes(7)
    [8, 6, 4, 3, 2, 1]
    """
    return sorted({padded_size(size) for size in range(1, most + 1)}, reverse=True)


class _CapturedScores:
    """A graph with its input and output.

    The stream must be on the device of the input: torch's default is on the device of the first graph.
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
            # Other threads may use the device meanwhile, for example to query its memory. Older versions of torch leave
            # the graph's stream the current one if the capture fails.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                cudnn_settings(benchmark=True),
                torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"),
            ):
                self._output = function(self._input)
        except RuntimeError as error:
            if isinstance(error.__context__, torch.cuda.OutOfMemoryError):
                raise error.__context__ from None  # instead of the failure to end the capture
            raise

    def replay(self, crops: Tensor) -> Tensor:
        self._input[: len(crops)].copy_(crops)
        self._graph.replay()
        return self._output[: len(crops)]
