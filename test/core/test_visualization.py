import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eomt_ext_core.errors import ImageError
from eomt_ext_core.visualization import CONTOUR_RGB, heatmap, overlay


def noise(height: int, width: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), np.uint8), random.random((height, width), np.float32)


def test_heatmap_is_turbo_in_rgb_over_a_fixed_range() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    turbo_bgr = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)
    picture = heatmap(levels.astype(np.float32) / 255)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, turbo_bgr[..., ::-1])
    half = heatmap(np.full((2, 2), 0.5, np.float32))[0, 0]
    assert (half[1] > half[[0, 2]]).all(), "the middle of Turbo is green"
    low, high = heatmap(np.array([[0.05, 0.95]], np.float32))[0].astype(int)
    assert low[2] > low[0], "what is known is blue"
    assert high[0] > high[2], "what is not is red"


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), opacity=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_overlay_is_a_blend_by_probability(height: int, width: int, opacity: float, seed: int) -> None:
    image, probability = noise(height, width, seed)
    before = image.copy(), probability.copy()
    share = opacity * probability[..., None]
    expected = image * (1 - share) + heatmap(probability) * share
    result = overlay(image, probability, opacity=opacity)
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 3
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(probability, before[1])


def test_an_image_without_anomalies_is_shown_as_it_is() -> None:
    image, _ = noise(20, 30)
    np.testing.assert_array_equal(overlay(image, np.zeros((20, 30), np.float32), np.zeros((20, 30), bool)), image)


def test_the_mask_is_outlined_and_not_filled() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    probability = np.zeros((40, 60), np.float32)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    mask[5, 5] = True
    result = overlay(image, probability, mask)
    outlined = (result == CONTOUR_RGB).all(axis=2)
    assert outlined[10, 20:50].all()
    assert outlined[29, 20:50].all()
    assert outlined[10:30, 20].all()
    assert outlined[5, 5]
    assert not outlined[12:28, 22:48].any()
    assert not outlined[:, 52:].any()


def test_views_and_read_only_arrays_are_accepted() -> None:
    image, probability = noise(16, 24)
    mask = probability > 0.7
    expected = overlay(image[:, ::-1].copy(), probability[:, ::-1].copy(), mask[:, ::-1].copy())
    for array in (image, probability, mask):
        array.setflags(write=False)
    np.testing.assert_array_equal(overlay(image[:, ::-1], probability[:, ::-1], mask[:, ::-1]), expected)


def test_sizes_that_differ_are_refused() -> None:
    image, probability = noise(16, 24)
    with pytest.raises(ImageError, match=r"one size, got 16×24, 15×24"):
        overlay(image, probability[1:])
    with pytest.raises(ImageError, match=r"one size, got 16×24, 16×24, 16×23"):
        overlay(image, probability, np.zeros((16, 23), bool))
