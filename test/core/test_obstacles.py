from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import ConfigError, ImageError
from eomt_ext_core.obstacles import Obstacle, check_obstacle_config, find_obstacles
from eomt_ext_core.obstacles.components import find_components

ALL = ObstacleConfig(min_area_px=1)
LEVELS = [float(np.float32(level)) for level in (0.0, 0.3, 0.5, 0.6, 0.9)]

pictures = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.sampled_from(LEVELS)
)
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def flood_fill(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The 8-connected components, literally."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    found = []
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            y, x = front.pop()
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            component |= around
            front += around
        found.append(component)
    return found


def naive(probability: NDArray[np.float32], low: float, high: float, min_area: int) -> list[Obstacle]:
    """What the obstacles are, one component and one pixel after the other; in no order."""
    obstacles = []
    for component in flood_fill(probability > np.float32(low)):
        score = max(float(probability[pixel]) for pixel in component)
        if score > np.float32(high) and len(component) >= min_area:
            rows, columns = zip(*component, strict=True)
            box = min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
            centroid = sum(columns) / len(component) + 0.5, sum(rows) / len(component) + 0.5
            obstacles.append(Obstacle(score, box, len(component), centroid))
    return obstacles


def rounded(obstacles: list[Obstacle]) -> list[tuple[Any, ...]]:
    return sorted((o.area_px, o.score, o.box_xywh, tuple(round(c, 9) for c in o.centroid_xy)) for o in obstacles)


def test_two_obstacles_by_hand() -> None:
    probability = np.zeros((5, 9), np.float32)
    probability[1, 1:4] = 0.75, 1.0, 0.75
    probability[2, 2] = 0.625
    probability[3:5, 7:9] = 0.875
    probability[4, 0] = 0.5
    frame = find_obstacles(probability, ALL, threshold=0.5)
    assert frame.obstacles == [
        Obstacle(score=1.0, box_xywh=(1, 1, 3, 2), area_px=4, centroid_xy=(2.5, 1.75)),
        Obstacle(score=0.875, box_xywh=(7, 3, 2, 2), area_px=4, centroid_xy=(8.0, 4.0)),
    ]
    assert frame.unlisted == 0
    np.testing.assert_array_equal(frame.mask, probability > 0.5)


def test_hysteresis_extends_an_obstacle_and_starts_none() -> None:
    probability = np.array([[0.4, 0.4, 0.9, 0.0, 0.4, 0.4]], np.float32)
    frame = find_obstacles(probability, ObstacleConfig(min_area_px=1, threshold_low=0.3), threshold=0.5)
    np.testing.assert_array_equal(frame.mask, [[True, True, True, False, False, False]])
    assert [obstacle.area_px for obstacle in frame.obstacles] == [3]


@pytest.mark.parametrize(("low", "is_one"), [(-1.0, False), (0.5, False), (0.4375, True)])
def test_what_equals_a_threshold_is_not_above_it(low: float, is_one: bool) -> None:
    probability = np.array([[0.5, 0.75]], np.float32)
    frame = find_obstacles(probability, ObstacleConfig(min_area_px=2, threshold_low=low), threshold=0.5)
    assert frame.mask.all() == frame.mask.any() == is_one
    assert not find_obstacles(probability, ALL, threshold=0.75).mask.any()


def test_diagonal_neighbours_are_one_obstacle() -> None:
    probability = np.eye(7, dtype=np.float32)
    assert [o.area_px for o in find_obstacles(probability, ALL, threshold=0.5).obstacles] == [7]
    assert [o.area_px for o in find_obstacles(probability[:, ::-1], ALL, threshold=0.5).obstacles] == [7]


@pytest.mark.parametrize(("min_area_px", "areas"), [(3, [4, 3]), (4, [4]), (5, [])])
def test_an_obstacle_of_exactly_the_least_area_is_kept(min_area_px: int, areas: list[int]) -> None:
    probability = np.zeros((3, 9), np.float32)
    probability[1, 0:3] = probability[1, 5:9] = 0.9
    frame = find_obstacles(probability, ObstacleConfig(min_area_px=min_area_px), threshold=0.5)
    assert [obstacle.area_px for obstacle in frame.obstacles] == areas
    assert frame.mask.sum() == sum(areas)


def test_the_list_holds_the_largest_and_the_mask_holds_all() -> None:
    probability = np.zeros((8, 16), np.float32)
    for row, length in ((0, 3), (2, 9), (4, 1), (6, 5)):
        probability[row, :length] = 0.9
    frame = find_obstacles(probability, ObstacleConfig(min_area_px=1, max_obstacles=2), threshold=0.5)
    assert [obstacle.area_px for obstacle in frame.obstacles] == [9, 5]
    assert frame.unlisted == 2
    assert frame.mask.sum() == 18


@settings(max_examples=150, deadline=None)
@given(pictures, st.sampled_from([-1.0, 0.0, 0.3, 0.5]), st.sampled_from([0.5, 0.6]), st.integers(1, 6))
def test_equal_to_the_literal_definition(probability: NDArray[Any], low: float, high: float, min_area: int) -> None:
    config = ObstacleConfig(threshold_low=low, min_area_px=min_area, max_obstacles=1000)
    before = probability.copy()
    frame = find_obstacles(probability, config, threshold=high)
    np.testing.assert_array_equal(probability, before)
    lowest = high if low < 0 else low
    assert rounded(frame.obstacles) == rounded(naive(probability, lowest, high, min_area))
    areas = [obstacle.area_px for obstacle in frame.obstacles]
    assert areas == sorted(areas, reverse=True)
    assert frame.mask.sum() == sum(areas)
    assert not (frame.mask & ~(probability > np.float32(lowest))).any()
    if min_area == 1:
        assert not ((probability > np.float32(high)) & ~frame.mask).any()


@settings(max_examples=100, deadline=None)
@given(masks)
def test_components_are_those_of_a_flood_fill(mask: NDArray[Any]) -> None:
    components = find_components(mask)
    expected = flood_fill(mask)
    assert len(components.area_px) == len(expected)
    for i in range(len(expected)):
        one = np.zeros_like(mask)
        one[components.crop] = components.chosen_inside(np.arange(len(expected)) == i)
        assert set(map(tuple, np.argwhere(one).tolist())) in expected


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_many_pieces(seed: int) -> None:
    random = np.random.default_rng(seed)
    probability = random.random((60, 83), np.float32)
    frame = find_obstacles(probability, ObstacleConfig(0.6, min_area_px=3, max_obstacles=10_000), threshold=0.8)
    assert len(frame.obstacles) > 30
    assert rounded(frame.obstacles) == rounded(naive(probability, 0.6, 0.8, 3))


def test_views_and_read_only_arrays_are_accepted() -> None:
    probability = np.random.default_rng(5).random((12, 17), np.float32)
    probability.setflags(write=False)
    for view in (probability.T, probability[::-1, ::2]):
        frame, copied = (find_obstacles(array, ALL, threshold=0.7) for array in (view, view.copy(order="C")))
        assert rounded(frame.obstacles) == rounded(copied.obstacles)
        np.testing.assert_array_equal(frame.mask, copied.mask)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything(value: float) -> None:
    frame = find_obstacles(np.full((4, 6), value, np.float32), ALL, threshold=0.5)
    assert frame.mask.all() == frame.mask.any() == bool(value)
    assert frame.obstacles == ([Obstacle(1.0, (0, 0, 6, 4), 24, (3.0, 2.0))] if value else [])


def test_a_low_threshold_above_the_threshold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"threshold_low must be at most the threshold 0\.5, got 0\.7"):
        check_obstacle_config(ObstacleConfig(threshold_low=0.7), 0.5, ())


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros((2, 3, 1), np.float32)])
def test_other_arrays_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"probability must be \(H, W\) float32, got \(2, 3"):
        find_obstacles(array, ALL, threshold=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_area_px": 0}, "min_area_px must be at least 1, got 0"),
        ({"max_obstacles": 0}, "max_obstacles must be at least 1, got 0"),
        ({"threshold_low": 1.5}, "threshold_low must be at most 1.0, got 1.5"),
        ({"region": "road"}, "region must be one of everywhere, polygon, drivable, got 'road'"),
        ({"polygon": [0, 0, 1, 1]}, "polygon must be x, y of at least three corners, got 4 numbers"),
        ({"polygon": [0, 0, 1, 1, 0.5, 1, 0]}, "at least three corners, got 7 numbers"),
        ({"polygon": [0, 0, 1, 0, 1, 1.5]}, "from 0 to 1, got 1.5"),
        ({"polygon": [0, 0, 1, 0, 1, float("nan")]}, "from 0 to 1, got nan"),
        ({"polygon": [0, 0, 0.5, 0.5, 1, 1]}, "polygon must enclose an area"),
        ({"polygon": "0,0,1"}, "polygon must be a flat list of numbers x0, y0, x1, y1, …, got '0,0,1'"),
        ({"polygon": [[0, 0], [1, 0], [1, 1]]}, "polygon must be a flat list of numbers"),
        ({"drivable_classes": "road"}, "drivable_classes must be a list of names, got 'road'"),
    ],
)
def test_a_broken_rule_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ObstacleConfig(**settings)
    assert message in str(caught.value)
