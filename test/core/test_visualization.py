import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError, ImageError
from eomt_ext_core.visualization import BOX_RGB, COLOUR_MAPS, CONTOUR_RGB, blend, heatmap, outline, overlay


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


@pytest.mark.parametrize("colour_map", COLOUR_MAPS)
def test_colour_maps_are_those_of_opencv_and_hold_no_box(colour_map: str) -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    colours = heatmap(levels.astype(np.float32) / 255, colour_map)
    expected_bgr = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colour_map.upper()}"))
    np.testing.assert_array_equal(colours, expected_bgr[..., ::-1])
    assert np.abs(colours.astype(int) - BOX_RGB).max(axis=-1).min() > 40
    black = np.zeros((1, 256, 3), np.uint8)
    shown = overlay(black, levels.astype(np.float32) / 255, opacity=1.0, colour_map=colour_map)
    np.testing.assert_array_equal(shown[0, 255], colours[0, 255])


def test_a_foreign_colour_map_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"colour_map must be one of turbo, .*, got 'rainbow'"):
        heatmap(np.zeros((2, 2), np.float32), "rainbow")


@pytest.mark.parametrize(("height", "line_px"), [(40, 1), (720, 2)])
def test_a_box_is_framed_and_what_is_in_it_stays(height: int, line_px: int) -> None:
    image, probability = np.zeros((height, 60, 3), np.uint8), np.zeros((height, 60), np.float32)
    framed = (overlay(image, probability, boxes_xywh=[(20, 10, 8, 5)]) == BOX_RGB).all(axis=2)
    expected = np.zeros_like(framed)
    expected[10 - line_px : 15 + line_px, 20 - line_px : 28 + line_px] = True
    expected[10:15, 20:28] = False
    np.testing.assert_array_equal(framed, expected)


@pytest.mark.parametrize("corner", [(20, 30), (0, 0), (60, 0), (-30, -30), (75, 45), (500, 500)])
def test_labels_are_written_into_the_picture_wherever_the_box_is(corner: tuple[int, int]) -> None:
    image, probability = np.zeros((48, 80, 3), np.uint8), np.zeros((48, 80), np.float32)
    boxes = [(*corner, 12, 9), (40, 25, 9, 9)]
    unlabelled, one, both = (
        overlay(image, probability, boxes_xywh=boxes, labels=labels) for labels in ([], ["17", ""], ["17", "(4)"])
    )
    assert (one != unlabelled).any(axis=2).sum() > 30
    assert (both != one).any(axis=2).sum() > 30


def test_a_label_hides_no_other_label() -> None:
    image, probability = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160), np.float32)
    boxes = [(40, 50, 30, 20), (52, 54, 9, 9)]
    alone, both = (
        overlay(image, probability, boxes_xywh=boxes, labels=labels) for labels in (["17", ""], ["17", "26?"])
    )
    written = (alone != overlay(image, probability, boxes_xywh=boxes)).any(axis=2)
    np.testing.assert_array_equal(both[written], alone[written])
    assert (both != alone).any(axis=2).sum() > 30


def test_a_label_that_makes_room_stays_in_the_picture() -> None:
    image, probability = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160), np.float32)
    boxes = [(40, -60, 30, 20), (40, -60, 30, 20)]
    one, both = (overlay(image, probability, boxes_xywh=boxes, labels=labels) for labels in (["17", ""], ["", "26?"]))
    assert all((shown != image).any(axis=2).sum() > 30 for shown in (one, both))
    together = overlay(image, probability, boxes_xywh=boxes, labels=["17", "26?"])
    assert (together != one).any(axis=2).sum() > 30


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


def test_different_sizes_are_refused() -> None:
    image, probability = noise(16, 24)
    with pytest.raises(ImageError, match=r"same size, got 16×24, 15×24"):
        overlay(image, probability[1:])
    with pytest.raises(ImageError, match=r"same size, got 16×24, 16×24, 16×23"):
        overlay(image, probability, np.zeros((16, 23), bool))
    with pytest.raises(
        ImageError, match=r"image and heatmap and probability must have the same size, got 16×24, 15×24, 16×24"
    ):
        blend(image, image[1:], probability, 0.5)
    with pytest.raises(ImageError, match=r"image and mask must have the same size"):
        outline(image, np.zeros((16, 23), bool))
