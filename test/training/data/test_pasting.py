import cv2
import numpy as np
import pytest
from eomt_ext_training.data.pasting import (
    Footing,
    Pasting,
    SceneColours,
    find_footing,
    ground_mask,
    horizon_row,
    paste,
    px_per_m_at,
    scene_colours,
    transfer_colours,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.scenes import Sprite

PLAIN = Pasting(colour_transfer=0.0, blur_px=0.0, shadow=0.0, noise=0.0)


def sprite_of(colour: tuple[int, int, int], size: int = 20, width_m: float = 1.0, height_m: float = 1.0) -> Sprite:
    """A solid rectangle with the clear border that sprites have."""
    rgba = np.zeros((size + 4, size + 4, 4), np.uint8)
    rgba[..., :3] = colour
    rgba[2:-2, 2:-2, 3] = 255
    return Sprite(rgba, width_m, height_m, size / height_m)


def a_road(height: int = 100, width: int = 120) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.uint8)


def pasted(sprite: Sprite, footing: Footing, pasting: Pasting = PLAIN) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image, labels = a_road()
    colours = scene_colours(image, labels == 0, 40.0)
    paste(image, labels, sprite, footing, colours, pasting, np.random.default_rng(0))
    return image, labels


def test_base_stands_on_the_row_at_its_scale() -> None:
    _, labels = pasted(sprite_of((255, 0, 0)), Footing(row=80, column=60, px_per_m=10.0))
    rows, columns = np.nonzero(labels == 1)
    assert rows.max() == 80
    assert rows.max() - rows.min() + 1 == pytest.approx(10, abs=1)
    assert columns.max() - columns.min() + 1 == pytest.approx(10, abs=1)
    assert columns.mean() == pytest.approx(60, abs=1)


def test_thing_is_labelled_inside_a_void_ring() -> None:
    image, labels = pasted(sprite_of((250, 10, 10)), Footing(70, 60, 20.0))
    known = labels == 0
    assert (image[known] == 100).all()
    anomaly = (labels == 1).astype(np.uint8)
    around = cv2.dilate(anomaly, np.ones((3, 3), np.uint8)).astype(bool) & (anomaly == 0)
    assert (labels[around] == 255).all()
    assert (image[labels == 1] == (250, 10, 10)).all()


@pytest.mark.parametrize(("ring", "wider"), [(1, 2), (2, 4)])
def test_the_ring_has_its_width(ring: int, wider: int) -> None:
    _, without = pasted(sprite_of((0, 0, 0)), Footing(70, 60, 20.0), Pasting(**vars(PLAIN) | {"void_ring_px": 0}))
    _, with_ring = pasted(sprite_of((0, 0, 0)), Footing(70, 60, 20.0), Pasting(**vars(PLAIN) | {"void_ring_px": ring}))
    spans = [np.ptp(np.flatnonzero((labels != 0).any(axis=0))) for labels in (without, with_ring)]
    assert spans[1] - spans[0] == wider
    assert ((without == 1) == (with_ring == 1)).all()


def test_blur_mixes_the_edge_and_keeps_the_middle() -> None:
    image, labels = pasted(
        sprite_of((200, 200, 200), size=40), Footing(80, 60, 40.0), Pasting(**vars(PLAIN) | {"blur_px": 1.5})
    )
    values = image[60, :, 0].astype(int)
    steps = np.abs(np.diff(values))
    assert 0 < steps.max() < 60  # 100 in one step without the blur
    assert values[60] == 200
    assert (labels[60][(values > 110) & (values < 175)] == 255).all()


def test_things_at_the_border_are_cut_off() -> None:
    for footing in (Footing(5, 2, 20.0), Footing(99, 119, 60.0), Footing(6, 118, 50.0)):
        image, labels = pasted(sprite_of((0, 255, 0)), footing, Pasting())
        assert image.shape == (100, 120, 3)
        assert (labels == 1).any()


def test_what_is_nearer_covers_what_is_farther() -> None:
    image, labels = a_road()
    colours = scene_colours(image, labels == 0, 40.0)
    rng = np.random.default_rng(0)
    for colour, row in (((255, 0, 0), 70), ((0, 0, 255), 75)):
        paste(image, labels, sprite_of(colour), Footing(row, 60, 20.0), colours, PLAIN, rng)
    assert tuple(image[68, 60]) == (0, 0, 255)
    assert labels[68, 60] == 1


def test_the_shadow_darkens_the_ground_beside_the_base_alone() -> None:
    image, labels = pasted(sprite_of((255, 255, 255)), Footing(70, 60, 20.0), Pasting(**vars(PLAIN) | {"shadow": 0.5}))
    assert image[72, 60, 0] < 75
    assert (image[labels == 0].max(), image[10, 60, 0], image[70, 5, 0]) == (100, 100, 100)
    assert labels[73, 60] == 0  # a shadow is no anomaly


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0, 300), st.floats(0.5, 3))
def test_scale_grows_with_the_row(row: float, other: float, horizon: float, camera: float) -> None:
    low, high = sorted((row, other))
    assert 0.0 <= px_per_m_at(low, horizon, camera) <= px_per_m_at(high, horizon, camera)
    assert px_per_m_at(horizon, horizon, camera) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 2.0), st.floats(0.2, 2.0))
def test_things_stand_on_ground_at_the_scale_of_their_row(seed: int, width_m: float, height_m: float) -> None:
    ground = np.zeros((200, 300), np.bool_)
    ground[110:, 60:240] = True
    pasting = Pasting(min_px=8)
    sprite = sprite_of((0, 0, 0), width_m=width_m, height_m=height_m)
    footing = find_footing(ground, 100.0, sprite, pasting, np.random.default_rng(seed))
    if footing is None:
        return
    assert ground[footing.row, footing.column]
    assert footing.px_per_m == pytest.approx((footing.row - 100) / 1.4)
    assert max(width_m, height_m) * footing.px_per_m >= 8 - 1 / 1.4 * max(width_m, height_m)
    assert height_m * footing.px_per_m <= 0.7 * 200


def test_without_ground_things_stand_in_the_lower_part() -> None:
    nowhere = np.zeros((100, 100), np.bool_)
    footing = find_footing(nowhere, 40.0, sprite_of((0, 0, 0)), Pasting(), np.random.default_rng(0))
    assert footing is not None
    assert footing.row >= 50
    assert find_footing(~nowhere, 99.0, sprite_of((0, 0, 0)), Pasting(), np.random.default_rng(0)) is None


def test_far_and_near_places_are_drawn_alike() -> None:
    ground = np.ones((400, 100), np.bool_)
    sprite = sprite_of((0, 0, 0), width_m=0.3, height_m=0.5)
    found = [find_footing(ground, 100.0, sprite, Pasting(), np.random.default_rng(seed)) for seed in range(400)]
    rows = np.array([footing.row for footing in found if footing is not None])
    farthest, nearest = 8 / 0.5 * 1.4, 0.7 * 100 / 0.3 * 1.4
    middle = 100 + np.sqrt(farthest * min(nearest, 299))
    assert (rows < middle).mean() == pytest.approx(0.5, abs=0.08)


def test_the_horizon_is_above_the_first_ground() -> None:
    ground = np.zeros((200, 100), np.bool_)
    ground[90:] = True
    ground[20, 5] = True  # one stray pixel
    assert horizon_row(ground) == pytest.approx(88)
    assert horizon_row(np.zeros((200, 100), np.bool_)) == pytest.approx(90)
    assert horizon_row(np.ones((200, 100), np.bool_)) == pytest.approx(50)


def test_ground_is_where_the_labels_say() -> None:
    semantic = np.array([[3, 4, 255], [0, 3, 8]], np.uint8)
    assert ground_mask(semantic, (3, 4)).tolist() == [[True, True, False], [False, True, False]]


def test_colours_move_to_the_scenes_by_the_strength() -> None:
    rng = np.random.default_rng(0)
    thing = np.dstack([rng.integers(150, 250, (30, 30, 3)), np.full((30, 30), 255)]).astype(np.uint8)
    scene = SceneColours(np.array([60.0, 128.0, 128.0]), np.array([20.0, 2.0, 2.0]))

    def lab_mean(rgba: NDArray[np.uint8]) -> NDArray[np.float64]:
        lab = cv2.cvtColor(np.ascontiguousarray(rgba[..., :3]), cv2.COLOR_RGB2LAB)
        return np.asarray(lab.reshape(-1, 3).mean(0), np.float64)

    distances = [abs(lab_mean(transfer_colours(thing, scene, strength))[0] - 60) for strength in (0, 0.3, 0.7, 1)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 2
    assert (transfer_colours(thing, scene, 0.0) == thing).all()
    assert (transfer_colours(thing, scene, 0.7)[..., 3] == 255).all()


def test_colours_are_those_below_the_horizon() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5] = 255
    image[5:] = 50
    known = np.ones((10, 10), np.bool_)
    lightness = cv2.cvtColor(np.full((1, 1, 3), 50, np.uint8), cv2.COLOR_RGB2LAB)[0, 0, 0]
    assert scene_colours(image, known, 4.5).mean[0] == lightness
    assert scene_colours(image, known, 40.0).mean[0] > lightness  # nothing below: all of it


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ({"probability": 1.2}, r"probability must lie in \[0, 1\], got 1.2"),
        ({"colour_transfer": float("nan")}, "colour_transfer must lie"),
        ({"max_objects": 0}, "max_objects must be at least 1, got 0"),
        ({"camera_height_m": 0.0}, "camera_height_m must be positive, got 0.0"),
    ],
)
def test_settings_are_held_to_their_rules(setting: dict[str, float], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        Pasting(**setting)  # type: ignore[arg-type]
