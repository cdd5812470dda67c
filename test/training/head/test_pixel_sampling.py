import itertools
from collections import Counter

import pytest
import torch
from eomt_ext_training.head.pixel_sampling import draw_pixels

LABELS = torch.tensor([[[0, 1, 255], [0, 0, 255]]], dtype=torch.uint8)
VALUES = torch.tensor([3.0, 100.0, float("nan"), -2.0, 0.5, float("nan")])  # of some function of the pixels
SUM = 101.5


@pytest.mark.parametrize("balanced", [False, True])
def test_expectation_by_enumeration(balanced: bool) -> None:
    """Two pixels of four (or one of one and one of three): every draw comes up, and their mean is the exact sum."""
    estimates = {}
    for seed in range(400):
        pixels = draw_pixels(LABELS, 2, balanced=balanced, generator=torch.Generator().manual_seed(seed))
        assert (pixels.labels[0] == LABELS.flatten()[pixels.position[0]]).all()
        drawn = tuple(pixels.position[0].tolist())
        estimates[drawn] = (VALUES[pixels.position[0]] * pixels.weight[0]).sum().item()
    possible = {(1, other) for other in (0, 3, 4)} if balanced else set(itertools.product((0, 1, 3, 4), repeat=2))
    assert set(estimates) == possible  # all of them equally likely, as the next test shows
    assert sum(estimates.values()) / len(estimates) == pytest.approx(SUM, rel=1e-6)


def test_draws_are_uniform_within_their_stratum() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = Counter(draw_pixels(LABELS, 20000, balanced=False, generator=generator).position[0].tolist())
    assert sorted(uniform) == [0, 1, 3, 4]
    assert all(abs(count - 5000) < 300 for count in uniform.values())
    balanced = Counter(draw_pixels(LABELS, 20000, balanced=True, generator=generator).position[0].tolist())
    assert balanced[1] == 10000
    assert all(abs(balanced[normal] - 3333) < 250 for normal in (0, 3, 4))


@pytest.mark.parametrize("balanced", [False, True])
def test_crops_of_one_kind_and_of_none(balanced: bool) -> None:
    labels = torch.tensor([[[0, 0, 255]], [[1, 1, 1]], [[255, 255, 255]]], dtype=torch.uint8)
    pixels = draw_pixels(labels, 5, balanced=balanced, generator=torch.Generator().manual_seed(0))
    assert pixels.position.shape == pixels.labels.shape == pixels.weight.shape == (3, 5)
    assert pixels.weight.sum(dim=1).tolist() == pytest.approx([2.0, 3.0, 0.0])
    assert set(pixels.position[0].tolist()) <= {0, 1}


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        draw_pixels(LABELS, 1, balanced=True, generator=torch.Generator())
    with pytest.raises(ValueError, match="at least 1"):
        draw_pixels(LABELS, 0, balanced=False, generator=torch.Generator())
