"""The book-keeping of the graphs, with a stand-in for a graph; real ones are tested through the engine on a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eomt_ext_core.backends import cuda_graphs
from eomt_ext_core.backends.cuda_graphs import GraphedScores, padded_size


@given(st.integers(1, 300))
def test_a_batch_fits_its_graph_with_little_padding(size: int) -> None:
    padded = padded_size(size)
    assert size <= padded <= max(size, 3 * size // 2)
    assert padded_size(padded) == padded
    assert padded.bit_count() <= 2


class StandIn:
    """Runs the function on a fixed input when it is replayed, as a graph does."""

    captured: list[int]

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor, pool: Any) -> None:
        self.function, self.input = function, example
        StandIn.captured.append(len(example))

    def replay(self, crops: Tensor) -> Tensor:
        self.input[: len(crops)].copy_(crops)
        return self.function(self.input)[: len(crops)]


def test_a_graph_is_captured_once_for_each_padded_size_and_choice_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn.captured = []
    monkeypatch.setattr(cuda_graphs, "_CapturedScores", StandIn)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)

    def score(crops: Tensor, scores: Any) -> Tensor:
        return crops.float().mean(dim=1, keepdim=True).expand(-1, len(scores), -1, -1)

    graphs = GraphedScores(score, torch.device("cpu"))
    crops = torch.arange(7 * 3 * 4, dtype=torch.uint8).view(7, 3, 2, 2)
    for count in (5, 6, 1, 7, 5):
        torch.testing.assert_close(graphs(crops[:count], ["head"]), score(crops[:count], ["head"]))
    assert StandIn.captured == [6, 1, 8]
    assert graphs(crops[:2], ["head", "rba"]).shape == (2, 2, 2, 2)
    assert graphs.sizes == (1, 2, 6, 8)
    graphs.clear()
    assert graphs.sizes == ()
    graphs(crops[:6], ["head"])
    assert StandIn.captured == [6, 1, 8, 2, 6]
