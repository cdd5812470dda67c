from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import ConfigError, ImageError
from eomt_ext_core.obstacles import check_obstacle_config, drivable_ids, find_obstacles
from eomt_ext_core.obstacles.components import find_components
from eomt_ext_core.obstacles.regions import BLOCK_PX, blocks_near_drivable, polygon_mask

NAMES = ["road", "pavement", "building", "sky", "car"]
ROAD, PAVEMENT, BUILDING, SKY, CAR = range(5)
DRIVABLE = ObstacleConfig(min_area_px=1, region="drivable")
HEIGHT, WIDTH = 96, 128


def street() -> NDArray[np.uint8]:
    """Sky over a building over a road that has a pavement on its left: rows 0-31, 32-63, 64-95."""
    semantic = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    semantic[32:64] = BUILDING
    semantic[64:] = ROAD
    semantic[64:, :48] = PAVEMENT
    return semantic


def kept(semantic: NDArray[np.uint8], *boxes: tuple[slice, slice]) -> list[bool]:
    """Whether each of these boxes of high probability is an obstacle in the drivable region."""
    probability = np.zeros(semantic.shape, np.float32)
    for box in boxes:
        probability[box] = 0.9
    frame = find_obstacles(probability, DRIVABLE, threshold=0.5, semantic=semantic, class_names=NAMES)
    assert (probability > 0.5).sum() == sum((probability[box] > 0.5).sum() for box in boxes), "boxes lie apart"
    for box in boxes:
        assert frame.mask[box].all() == frame.mask[box].any(), "an obstacle is kept whole or not at all"
    return [bool(frame.mask[box].all()) for box in boxes]


def test_only_components_on_the_road_are_obstacles() -> None:
    sky, facade, pavement = np.s_[4:16, 20:40], np.s_[36:52, 60:80], np.s_[80:90, 4:20]
    on_road, standing = np.s_[72:84, 70:90], np.s_[50:66, 100:110]
    assert kept(street(), sky, facade, pavement, on_road, standing) == [False, False, False, True, True]


@pytest.mark.parametrize("predicted", [CAR, BUILDING, SKY])
def test_an_obstacle_whose_own_class_is_another_one_is_kept(predicted: int) -> None:
    semantic = street()
    semantic[70:88, 60:100] = predicted
    core = np.s_[78:80, 78:82]
    assert kept(semantic, core) == [True], "the road surrounds it"
    semantic[70:, 60:100] = predicted
    assert kept(semantic, core) == [True], "the road and the image's lower edge surround it"
    semantic[64:, 60:] = predicted
    assert kept(semantic, core) == [False], "no road surrounds it"


@pytest.mark.parametrize(("bottom", "expected"), [(64, True), (61, True), (60, False)])
def test_a_gap_within_reach_is_still_touch(bottom: int, expected: bool) -> None:
    assert kept(street(), np.s_[bottom - 10 : bottom, 100:110]) == [expected]


def test_the_reach_is_a_share_of_the_height() -> None:
    blocks = blocks_near_drivable(street(), [ROAD], 0.125 * HEIGHT)
    assert blocks.shape == (HEIGHT // BLOCK_PX, WIDTH // BLOCK_PX)
    expected = np.zeros_like(blocks)
    expected[64 // BLOCK_PX - 3 :, 48 // BLOCK_PX - 3 :] = True
    np.testing.assert_array_equal(blocks, expected)


def test_without_any_road_there_is_no_obstacle() -> None:
    assert kept(np.full((HEIGHT, WIDTH), BUILDING, np.uint8), np.s_[90:96, 10:20]) == [False]


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30), elements=st.integers(0, 3)),
    st.floats(0, 12),
)
def test_blocks_are_those_of_the_literal_definition(semantic: NDArray[Any], reach_px: float) -> None:
    rows, columns = -(-semantic.shape[0] // BLOCK_PX), -(-semantic.shape[1] // BLOCK_PX)
    padded = np.full((rows * BLOCK_PX, columns * BLOCK_PX), 9)
    padded[: semantic.shape[0], : semantic.shape[1]] = semantic
    drivable = (padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX) == 0).any(axis=(1, 3))
    outside, front = np.zeros_like(drivable), []
    for y, x in np.argwhere(~drivable):
        if y == 0 or x in (0, columns - 1):
            front.append((y, x))
    while front:
        y, x = front.pop()
        if 0 <= y < rows and 0 <= x < columns and not drivable[y, x] and not outside[y, x]:
            outside[y, x] = True
            front += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    reach = max(1, round(reach_px / BLOCK_PX))
    expected = np.zeros_like(drivable)
    for y, x in np.argwhere(~outside):
        expected[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    np.testing.assert_array_equal(blocks_near_drivable(semantic, [0], reach_px), expected)


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=15)), st.integers(0, 99))
def test_component_touches_blocks_of_its_pixels(mask: NDArray[Any], seed: int) -> None:
    blocks = np.random.default_rng(seed).random([-(-side // BLOCK_PX) for side in mask.shape]) < 0.3
    pixels = np.kron(blocks, np.ones((BLOCK_PX, BLOCK_PX), bool))[: mask.shape[0], : mask.shape[1]]
    components = find_components(mask)
    expected = components.largest(pixels.astype(np.float32)) > 0
    np.testing.assert_array_equal(components.meet(blocks, BLOCK_PX), expected)


def test_a_polygon_cuts_the_mask() -> None:
    probability = np.zeros((8, 16), np.float32)
    probability[2:6] = 0.9
    config = ObstacleConfig(min_area_px=1, region="polygon", polygon=(0.5, 0, 1, 0, 1, 1, 0.5, 1))
    frame = find_obstacles(probability, config, threshold=0.5)
    assert [(o.box_xywh, o.area_px) for o in frame.obstacles] == [((8, 2, 8, 4), 32)]
    assert (probability[2:6] > 0.5).all(), "the probability is never cut"


def test_polygon_is_the_same_at_every_resolution() -> None:
    triangle = (0.1, 0.9, 0.5, 0.2, 0.9, 0.9)
    small, large = (polygon_mask(triangle, (36 * k, 64 * k)) for k in (1, 10))
    assert abs(small.mean() - large.mean()) < 0.03
    assert large.mean() == pytest.approx(0.5 * 0.8 * 0.7, abs=0.005)
    assert polygon_mask((0, 0, 1, 0, 1, 1, 0, 1), (5, 7)).all()


@pytest.mark.parametrize(
    ("wanted", "names", "ids"),
    [
        (("road",), NAMES, (0,)),
        (("Road", "PAVEMENT"), NAMES, (0, 1)),
        (("2", "road"), NAMES, (2, 0)),
        (("7",), (), (7,)),
        (("lane",), ["lane", "sky", "Lane"], (0, 2)),
    ],
)
def test_drivable_classes_are_names_or_ids(wanted: tuple[str, ...], names: Sequence[str], ids: tuple[int, ...]) -> None:
    assert drivable_ids(ObstacleConfig(drivable_classes=wanted), names) == ids


@pytest.mark.parametrize(
    ("config", "names", "message"),
    [
        (ObstacleConfig(region="drivable"), (), "needs the model's class names to know what 'road' is"),
        (ObstacleConfig(region="drivable"), ["floor"], r"classes of the model \(floor\), got 'road'"),
        (ObstacleConfig(region="drivable", drivable_classes=("5",)), NAMES, "must be classes of the model .* got '5'"),
        (ObstacleConfig(region="drivable", drivable_classes=("256",)), (), "to know what '256' is"),
        (ObstacleConfig(region="drivable", drivable_classes=()), NAMES, "needs drivable_classes, got none"),
        (ObstacleConfig(region="polygon"), NAMES, "region polygon needs a polygon, got none"),
    ],
)
def test_a_region_that_cannot_be_is_refused(config: ObstacleConfig, names: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_obstacle_config(config, 0.5, names)


def test_the_drivable_region_needs_a_semantic_map_of_the_same_size() -> None:
    probability = np.zeros((8, 8), np.float32)
    with pytest.raises(ConfigError, match="needs the semantic map of the image, got none"):
        find_obstacles(probability, DRIVABLE, threshold=0.5, class_names=NAMES)
    for semantic in (np.zeros((8, 9), np.uint8), np.zeros((8, 8), np.int64)):
        with pytest.raises(ImageError, match=r"semantic must be \(8, 8\) uint8, got"):
            find_obstacles(probability, DRIVABLE, threshold=0.5, class_names=NAMES, semantic=semantic)  # type: ignore[arg-type]
