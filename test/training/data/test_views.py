import numpy as np
import pytest
from eomt_ext_training.data.views import (
    Augmentation,
    Views,
    cut_image,
    cut_labels,
    drawn_view,
    fixed_view,
    recoloured,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_ext_core.errors import ConfigError

STILL = Augmentation(scale=(1.0, 1.0), mirror=False, gain=0, gamma=0, tint=0, saturation=0, noise=0)
sides = st.tuples(st.integers(8, 90), st.integers(8, 90))


@settings(deadline=None, max_examples=60)
@given(sides, sides, st.integers(0, 2**31), st.floats(1.0, 3.0))
def test_a_view_is_a_crop_of_the_image(
    image_hw: tuple[int, int], crop_hw: tuple[int, int], seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    view = drawn_view(image_hw, crop_hw, Augmentation(scale=(scale, scale)), rng)
    labels = np.arange(image_hw[0] * image_hw[1]).reshape(image_hw).astype(np.uint8)
    assert cut_labels(labels, view).shape == crop_hw
    assert cut_image(np.dstack([labels] * 3), view).shape == (*crop_hw, 3)
    wanted = max(crop / side for crop, side in zip(crop_hw, image_hw, strict=True)) * scale
    for side, resized in zip(image_hw, view.resized_hw, strict=True):
        assert abs(resized - side * wanted) <= 1.0


def test_views_are_spread_evenly_and_one_is_central() -> None:
    assert [fixed_view((50, 200), (100, 100), number, 4).left for number in range(4)] == [0, 100, 200, 300]
    assert fixed_view((50, 200), (100, 100), 0, 1).left == 150
    assert fixed_view((200, 50), (100, 100), 1, 2).top == 300


def test_a_row_of_the_image_is_found_in_the_view() -> None:
    image = np.zeros((60, 80), np.uint8)
    image[30] = 255
    view = fixed_view((60, 80), (90, 60), 0, 1)
    assert cut_labels(image, view)[int(view.row_of(30.5, 60)), 0] == 255


def test_mirrored_views_are_mirrored() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = set()
    for seed in range(20):
        view = drawn_view((8, 8), (8, 8), Augmentation(scale=(1.0, 1.0)), np.random.default_rng(seed))
        expected = image[:, ::-1] if view.mirrored else image
        np.testing.assert_array_equal(cut_labels(image, view), expected)
        found.add(view.mirrored)
    assert found == {True, False}


def test_without_variation_colours_stay() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(recoloured(image, STILL, np.random.default_rng(0)), image)


def test_colours_vary_without_moving_anything() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 160
    varied = [recoloured(image, Augmentation(noise=0), np.random.default_rng(seed)) for seed in range(10)]
    assert len({int(picture[0, 7, 0]) for picture in varied}) > 5
    assert all((picture[:, :4] == 0).all() for picture in varied)


def test_items_follow_from_seed_view_and_row() -> None:
    views = Views((8, 8), per_image=3, seed=5)
    row, number, rng = views.locate(7, num_images=3)
    assert (row, number) == (1, 2)
    assert rng.integers(1000) == np.random.default_rng([5, 2, 1]).integers(1000)
    assert views.locate(-1, 3)[:2] == (2, 2)
    with pytest.raises(IndexError):
        views.locate(9, 3)


def test_settings_are_held_to_their_rules() -> None:
    with pytest.raises(ConfigError, match=r"scale must be two ascending numbers from 1 on, got \(0.5, 1.0\)"):
        Augmentation(scale=(0.5, 1.0))
    with pytest.raises(ConfigError, match="gamma must not be negative, got -1"):
        Augmentation(gamma=-1)
    with pytest.raises(ConfigError, match="views of an image must be positive"):
        Views((8, 8), per_image=0)
