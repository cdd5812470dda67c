"""The book-keeping of the graphs, with a stand-in for a graph; real ones are tested through the engine on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eomt_ext_core.backends import cuda_graphs
from eomt_ext_core.backends.cuda_graphs import WARM_UPS, GraphedScores, _CapturedScores, padded_size, padded_sizes


@given(st.integers(1, 300))
def test_a_batch_fits_its_graph_with_little_padding(size: int) -> None:
    padded = padded_size(size)
    assert size <= padded <= max(size, 3 * size // 2)
    assert padded_size(padded) == padded
    assert padded.bit_count() <= 2


def test_the_sizes_of_graphs_are_those_of_all_batches() -> None:
    for most in (1, 5, 16, 256):
        sizes = padded_sizes(most)
        assert sizes == sorted(sizes, reverse=True)
        assert set(sizes) == {padded_size(size) for size in range(1, most + 1)}


class StandIn:
    """Runs the function on a fixed input when it is replayed, as a graph does."""

    captured: list[int]
    streams: list[Any]

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor, pool: Any, stream: Any) -> None:
        self.function, self.input = function, example
        StandIn.captured.append(len(example))
        StandIn.streams.append(stream)

    def replay(self, crops: Tensor) -> Tensor:
        self.input[: len(crops)].copy_(crops)
        return self.function(self.input)[: len(crops)]


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Graphs by the stand-in on a machine without a GPU; what devices were made the current one."""
    StandIn.captured, StandIn.streams = [], []
    current: list[torch.device] = []

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        current.append(which)
        yield

    monkeypatch.setattr(cuda_graphs, "_CapturedScores", StandIn)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: ("stream of", device))
    monkeypatch.setattr(torch.cuda, "device", device)
    return current


def score(crops: Tensor, scores: Any) -> Tensor:
    return crops.float().mean(dim=1, keepdim=True).expand(-1, len(scores), -1, -1)


@pytest.mark.usefixtures("devices")
def test_graph_is_captured_once_for_each_size_and_scores() -> None:
    graphs = GraphedScores(score, torch.device("cpu"))
    crops = torch.arange(7 * 3 * 4, dtype=torch.uint8).view(7, 3, 2, 2)
    for count in (5, 6, 1, 7, 5):
        torch.testing.assert_close(graphs(crops[:count], ["head"]), score(crops[:count], ["head"]))
    assert StandIn.captured == [6, 1, 8]
    assert graphs(crops[:2], ["head", "rba"]).shape == (2, 2, 2, 2)
    assert StandIn.captured == [6, 1, 8, 2]
    assert [graphs.has(size, ["head"]) for size in (1, 2, 5, 7)] == [True, False, True, True]
    graphs.clear()
    assert not graphs.has(1, ["head"])
    graphs(crops[:6], ["head"])
    assert StandIn.captured == [6, 1, 8, 2, 6]


def test_graphs_of_two_devices_are_captured_each_on_its_own(devices: list[torch.device]) -> None:
    both = [torch.device("cuda", index) for index in (0, 1)]
    crops = torch.zeros((1, 3, 2, 2), dtype=torch.uint8)
    for device in both:
        graphs = GraphedScores(score, device)
        graphs(crops, ["head"])
        graphs(crops, ["rba"])
    assert devices == [both[0]] * 2 + [both[1]] * 2
    assert StandIn.streams == [("stream of", both[0])] * 2 + [("stream of", both[1])] * 2


class Capture:
    """In the places of torch's streams and graph: what runs on which; a capture fails as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: Any = self
        self.ran_on: list[Any] = []
        self.error: Exception | None = None
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)

    def wait_stream(self, stream: Any) -> None: ...

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any = None, **_: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            if self.error is not None:
                raise RuntimeError("the capture failed")  # and the stream stays, as in torch 2.11
            self.current = before


class Side:
    """A stream beside the one that is current at first."""

    def wait_stream(self, stream: Any) -> None: ...


def test_capture_uses_given_stream_and_cudnn_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, ours = Capture(monkeypatch), Side()
    seen = []

    def function(crops: Tensor) -> Tensor:
        seen.append((capture.current, torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark))
        return crops

    _CapturedScores(function, torch.zeros(1), (0, 0), ours)  # type: ignore[arg-type]
    assert seen == [(ours, True, True)] * (WARM_UPS + 1)
    assert not torch.backends.cudnn.benchmark
    assert capture.current is capture


def test_a_failed_capture_gives_back_the_stream_and_says_that_memory_was_short(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, calls = Capture(monkeypatch), iter(range(100))

    def function(crops: Tensor) -> Tensor:
        if next(calls) == WARM_UPS:
            capture.error = torch.cuda.OutOfMemoryError("CUDA out of memory")
            raise capture.error
        return crops

    with pytest.raises(torch.cuda.OutOfMemoryError):
        _CapturedScores(function, torch.zeros(1), (0, 0), Side())  # type: ignore[arg-type]
    assert capture.current is capture
