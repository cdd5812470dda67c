import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_ext_core.scoring.uncertainty import (
    BASELINES,
    baseline_probability,
    baseline_score,
    semantic_map,
    statistics,
)

# One pixel, two classes.
PIXEL = torch.tensor([0.8, 0.1]).view(1, 2, 1, 1)


def test_semantic_map_by_hand() -> None:
    masks = torch.tensor([0.0, math.log(3.0)]).view(1, 2, 1, 1)  # probabilities 1/2 and 3/4
    classes = torch.tensor([[[0.25, 0.25, 0.5], [0.7, 0.2, 0.1]]]).log()
    semantic = semantic_map(masks, classes, (1, 1))
    expected = [0.5 * 0.25 + 0.75 * 0.7, 0.5 * 0.25 + 0.75 * 0.2]
    np.testing.assert_allclose(semantic.flatten(), expected, rtol=1e-6)


def test_no_object_is_dropped_after_the_softmax() -> None:
    classes = torch.tensor([[[0.0, 0.0, 20.0]]])
    semantic = semantic_map(torch.full((1, 1, 1, 1), 30.0), classes, (1, 1))
    assert semantic.sum() < 1e-7


def test_mask_logits_are_resized_before_the_sigmoid() -> None:
    masks = torch.tensor([-10.0, 10.0]).view(1, 1, 1, 2)
    sure = torch.tensor([[[50.0, 0.0]]])
    semantic = semantic_map(masks, sure, (1, 4))[0, 0, 0]
    expected = torch.tensor([-10.0, -5.0, 5.0, 10.0]).sigmoid()
    torch.testing.assert_close(semantic, expected, atol=1e-6, rtol=0)


def test_statistics_by_hand() -> None:
    result = statistics(PIXEL)
    assert result.shape == (1, 1, 1, 4)
    entropy = -(0.8 * math.log(0.8) + 0.1 * math.log(0.1))
    np.testing.assert_allclose(result.flatten(), [0.8, entropy, 0.9, 0.2], rtol=1e-6)


def test_statistics_where_nothing_is_known_and_where_much_overlaps() -> None:
    nothing = statistics(torch.zeros(1, 3, 1, 1)).flatten()
    np.testing.assert_allclose(nothing, [0.0, 3 * 1e-7 * -math.log(1e-7), 0.0, 1.0], rtol=1e-5)
    much = statistics(torch.full((1, 2, 1, 1), 1.5)).flatten()  # a sum over queries may exceed 1
    np.testing.assert_allclose(much, [1.5, -3 * math.log(1.5), 3.0, -0.5], rtol=1e-6)


def test_baselines_by_hand() -> None:
    odds = np.exp([0.8, 0.1])
    softmax = odds / odds.sum()
    expected = {
        "msp": 1 - softmax.max(),
        "max_logit": -0.8,
        "entropy": -(softmax * np.log(softmax)).sum(),
        "energy": -math.log(odds.sum()),
        "rba": -(math.tanh(0.8) + math.tanh(0.1)),
        "msp_prob": 1 / 9,
        "entropy_prob": -(8 / 9 * math.log(8 / 9) + 1 / 9 * math.log(1 / 9)),
    }
    assert set(expected) == set(BASELINES)
    for kind, value in expected.items():
        score = baseline_score(PIXEL, kind)
        assert score.shape == (1, 1, 1)
        np.testing.assert_allclose(score.item(), value, rtol=1e-6, err_msg=kind)


@pytest.mark.parametrize("kind", BASELINES)
def test_what_is_known_scores_less_than_what_is_not(kind: str) -> None:
    known = torch.tensor([0.99, 0.0, 0.0]).view(1, 3, 1, 1)
    unknown = torch.tensor([0.02, 0.02, 0.01]).view(1, 3, 1, 1)
    assert baseline_score(known, kind) < baseline_score(unknown, kind)


def test_max_logit_ranks_as_the_statistic_msp_does() -> None:
    semantic = torch.rand(1, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    by_score = baseline_score(semantic, "max_logit").flatten().argsort()
    by_statistic = statistics(semantic)[..., 3].flatten().argsort()
    assert by_score.tolist() == by_statistic.tolist()


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(BASELINES),
    classes=st.integers(1, 20),
    queries=st.integers(1, 100),
    seed=st.integers(0, 2**31),
    sharpness=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_probabilities_stay_in_bounds_unclipped(
    kind: str, classes: int, queries: int, seed: int, sharpness: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = sharpness * torch.randn(1, queries, 3, 4, generator=generator)
    logits = sharpness * torch.randn(1, queries, classes + 1, generator=generator)
    score = baseline_score(semantic_map(masks, logits, (3, 4)), kind)
    probability = baseline_probability(score, kind, classes)
    assert probability.isfinite().all()
    assert probability.min() >= 0
    assert probability.max() <= 1
    order = score.flatten().argsort()
    assert (probability.flatten()[order].diff() >= 0).all()


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("msp", 0.0, 0.9), ("max_logit", -8.0, 0.0), ("entropy", 0.0, math.log(10)), ("energy", -9.0, -math.log(10)),
     ("rba", -5.0, 0.0), ("msp_prob", 0.0, 0.9), ("entropy_prob", 0.0, math.log(10))],
)  # fmt: skip
def test_probability_rises_strictly_over_the_range_of_a_score(kind: str, low: float, high: float) -> None:
    score = torch.linspace(low, high, 50)
    probability = baseline_probability(score, kind, num_classes=10)
    assert (probability.diff() > 0).all()
    assert probability[0] >= 0
    assert probability[-1] <= 1
    if kind not in ("msp", "msp_prob"):
        np.testing.assert_allclose(probability[-1].item(), 1.0, rtol=1e-6)


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(ValueError, match=r"score must be one of msp, .*, got 'head'"):
        baseline_score(PIXEL, "head")
    with pytest.raises(ValueError, match=r"score must be one of msp, .*, got 'head'"):
        baseline_probability(PIXEL, "head", 2)


def test_semantic_map_agrees_with_the_reference_code(reference_folder: Path) -> None:
    stored = np.load(reference_folder / "eomt_square" / "io.npz")
    for mode in ("nomask", "masked"):
        masks, classes = (torch.from_numpy(stored[f"{part}_logits_{mode}"]) for part in ("mask", "class"))
        expected = torch.from_numpy(stored[f"per_pixel_semantic_{mode}"])
        difference = (semantic_map(masks, classes, (96, 96)) - expected).abs().max()
        assert difference <= 1e-5
