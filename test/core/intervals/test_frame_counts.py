"""Counts of frames: what they hold, and that they survive their file."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.intervals.frame_counts import FrameCounts, count_pixels, pack_edges, unpack_edges

COUNTS = FrameCounts(
    np.array([0.0, 3, 1]), np.array([0.0, 0, 2]), 2, 1, 0.75, 0.5, np.arange(11.0), np.arange(11.0)[::-1]
)


@given(arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32)))
def test_cumulated_counts_are_the_pixels_above_each_edge(scores: np.ndarray) -> None:
    edges = np.concatenate(([np.inf], np.unique(scores.astype(np.float64))[::-1], [-1.0]))
    counted = count_pixels(scores, np.zeros(scores.shape, np.uint8), edges, 0).cumsum()
    assert counted.tolist() == [int((scores > edge).sum()) for edge in edges]


def test_only_the_label_asked_for_is_counted() -> None:
    scores, labels = np.float32([[0.9, 0.9, 0.3]]), np.uint8([[0, 255, 1]])
    assert count_pixels(scores, labels, np.array([np.inf, 0.5, 0.0]), 1).tolist() == [0, 0, 1]


def test_counts_survive_their_file() -> None:
    again = FrameCounts.of_json(COUNTS.to_json(), 3)
    for name, value in vars(COUNTS).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode()


@pytest.mark.parametrize(
    "stored",
    [
        None,
        {},
        COUNTS.to_json() | {"pixels": "!"},
        COUNTS.to_json() | {"pixels": packed(np.zeros(1 << 22, np.uint8))},
        COUNTS.to_json() | {"components": packed(np.full(26, np.nan))},
        COUNTS.to_json() | {"components": packed(np.full(26, -1.0))},
    ],
)
def test_hostile_counts_are_refused(stored: object) -> None:
    with pytest.raises(DatasetError, match="counts of a frame"):
        FrameCounts.of_json(stored, 3)


@pytest.mark.parametrize("edges", [[], [0.1, 0.2], [0.2, np.nan], [0.5] * 2])
def test_edges_descend(edges: list[float]) -> None:
    with pytest.raises(DatasetError, match="edges"):
        unpack_edges(pack_edges(np.array(edges)))
    assert unpack_edges(pack_edges(np.array([np.inf, 0.5]))).tolist() == [np.inf, 0.5]
