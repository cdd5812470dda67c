"""Contact lines of drawn masks, in metres, and the scan of them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import GroundError
from eomt_ext_core.ground import GroundConfig, GroundView, camera_model, locate, pose_from_angles, scan
from eomt_ext_core.ground.contacts import find_contacts
from eomt_ext_core.ground.scan import BEAMS, INCREMENT_RAD
from eomt_ext_core.obstacles import ObstacleFrame, find_obstacles
from eomt_ext_core.obstacles.regions import polygon_mask

# 10 m ahead is 100 rows below the horizon, and a pixel there is 1 cm.
CAMERA = camera_model("", (400, 640), (1000.0, 0.0, 319.5, 0.0, 1000.0, 199.5, 0.0, 0.0, 1.0), [])
POSE = pose_from_angles(1.0)
ANY_SIZE = ObstacleConfig(min_area_px=1)


def found(*boxes, config=ANY_SIZE, size_hw=(400, 640)):
    """Obstacles of boxes x, y, width, height."""
    probability = np.zeros(size_hw, np.float32)
    for x, y, width, height in boxes:
        probability[y : y + height, x : x + width] = 0.9
    return find_obstacles(probability, config, threshold=0.5)


def located(frame, inside=None, **config):
    return locate(frame, CAMERA, POSE, GroundConfig(**config), inside)


def test_each_column_has_its_lowest_pixel_and_only_that():
    pixels = np.array(
        [
            [0, 1, 1, 0, 0, 0],
            [0, 1, 1, 0, 1, 1],
            [0, 0, 1, 0, 1, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 1, 0],
        ],
        np.float32,
    )
    contacts = find_contacts(find_obstacles(pixels, ObstacleConfig(min_area_px=2), threshold=0.5))
    rows = list(zip(*(getattr(contacts, name).tolist() for name in ("obstacle", "column", "row")), strict=True))
    assert rows == [(0, 1, 1), (0, 2, 2), (1, 4, 2), (1, 5, 1)], "single pixels are no obstacles here"
    assert not contacts.is_cut.any()


def test_a_wide_image_has_the_lowest_pixel_of_every_few_columns():
    frame = found((100, 500, 9, 50), (106, 550, 1, 3), size_hw=(1080, 1920))
    contacts = find_contacts(frame)
    assert contacts.column.tolist() == [101, 104, 106, 108]
    assert contacts.row.tolist() == [549, 549, 552, 549]


def test_a_box_on_the_road_is_where_it_is():
    frame = located(found((220, 260, 200, 40)))
    (obstacle,) = frame.obstacles
    assert obstacle.range_m == pytest.approx(10)
    assert obstacle.nearest_xyz[0] == pytest.approx(10)
    assert obstacle.nearest_xyz[2] == pytest.approx(0)
    assert obstacle.box_xyz == pytest.approx([10, 0, 0.2])
    assert obstacle.size_xyz == pytest.approx((0, 2, 0.4))
    assert obstacle.id == 0
    assert frame.points.xyz[:, 1].max() == pytest.approx(0.995), "to the left"
    assert len(frame.points.range_m) == 200


def test_nothing_is_projected_where_an_obstacle_is_cut_off():
    cut = found((100, 350, 50, 50), (300, 250, 50, 50))
    frame = located(cut)
    assert [each.obstacle.box_xywh for each in frame.obstacles] == [(300, 250, 50, 50)]
    assert frame.of_obstacle.tolist() == [0] * 50
    config = ObstacleConfig(min_area_px=1, region="polygon", polygon=(0, 0, 1, 0, 1, 0.75, 0, 0.75))
    inside = polygon_mask(config.polygon, (400, 640))
    of_region = found((100, 280, 50, 50), (300, 240, 50, 50), config=config)
    assert len(located(of_region).obstacles) == 2
    assert len(located(of_region, lambda row, column: inside[row, column]).obstacles) == 1


def test_belly_and_flanks_have_no_contacts():
    legs = found((200, 200, 100, 50), (200, 250, 10, 50), (290, 250, 10, 50))
    frame = located(legs)
    assert sorted(set(frame.points.xyz[:, 0].round(6))) == [10]
    assert len(frame.points.range_m) == 20
    assert frame.obstacles[0].size_xyz[1] == pytest.approx(1.0)

    probability = np.zeros((400, 640), np.float32)
    cv2.circle(probability, (320, 250), 50, 0.9, -1)
    ball = located(find_obstacles(probability, ObstacleConfig(), threshold=0.5))
    at_10_m = 100.5  # rows below the horizon
    assert ball.points.xyz[:, 0].max() < 1000 / (at_10_m - 2.5)
    assert ball.obstacles[0].size_xyz[1] == pytest.approx(1.0, abs=0.02), "the mask's own width at that range"
    assert ball.obstacles[0].size_xyz[2] == pytest.approx(1.0, abs=0.02)


def test_a_line_across_the_road_is_followed():
    probability = np.zeros((400, 640), np.float32)
    for column in range(120, 520):
        row = round(199.5 + 1000 / (10 - 0.5 * (column - 320) / 100))  # recedes half a metre a metre
        probability[row - 20 : row, column] = 0.9
    frame = located(find_obstacles(probability, ObstacleConfig(), threshold=0.5))
    assert len(frame.points.range_m) == 400
    assert frame.obstacles[0].size_xyz[0] == pytest.approx(2.0, abs=0.15)


def test_flank_of_a_cut_obstacle_is_no_contact():
    probability = np.zeros((400, 640), np.float32)
    cv2.circle(probability, (320, 380), 100, 0.9, -1)
    assert located(find_obstacles(probability, ObstacleConfig(), threshold=0.5)).obstacles == []


def test_what_is_too_far_or_not_seen_is_not_located():
    far = found((300, 190, 20, 20))
    assert located(far, max_range_m=50.0).obstacles == []
    assert located(far, max_range_m=200.0).obstacles[0].range_m == pytest.approx(100)
    assert located(found()).obstacles == []
    with pytest.raises(GroundError, match="components"):
        located(ObstacleFrame(np.zeros((400, 640), np.bool_), [], 0))


def beams(frame, inside=None, **config):
    view = GroundView(CAMERA, POSE, GroundConfig(**config))
    return scan(locate(frame, CAMERA, POSE, view.config, inside), frame, view, inside)


def beam(degrees):
    return round((np.deg2rad(degrees) + np.pi) / INCREMENT_RAD)


def test_scan_has_the_nearest_contact():
    ranges = beams(found((220, 260, 200, 40), (300, 305, 20, 35)))
    assert ranges.shape == (BEAMS,)
    assert ranges[beam(0.5)] == pytest.approx(1000 / 140, rel=1e-3)
    assert ranges[beam(3)] == pytest.approx(10, rel=2e-3)
    assert np.isposinf(ranges[[beam(10), beam(-10)]]).all()
    assert np.isnan(ranges[[beam(30), beam(-30), beam(90), beam(-180)]]).all(), "out of sight"


def test_what_is_cut_off_or_out_of_the_region_is_not_free():
    assert np.isnan(beams(found((280, 300, 100, 100)))[beam(0)])
    road = np.zeros((400, 640), np.bool_)
    road[:, :320] = True
    ranges = beams(found(), lambda row, column: road[row, column])
    assert np.isposinf(ranges[beam(5)])
    assert np.isnan(ranges[beam(-5)])
    road[200:260, :320] = False  # a wall 16 m ahead
    assert np.isnan(beams(found(), lambda row, column: road[row, column])[beam(5)])
    assert np.isposinf(beams(found(), lambda row, column: road[row, column], max_range_m=15.0)[beam(5)])


FOCAL = st.sampled_from([1e-300, 1e300, 1.0, 1e6])
EXTREME = st.sampled_from([0.0, 1e-300, 1e300, 1e9, -1e6, 0.5, -0.5])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([1e-300, 1e300, 1.0, 1e6]), min_size=2, max_size=2),
    st.lists(EXTREME, min_size=5, max_size=5),
)
def test_whatever_a_calibration_holds_what_is_located_is_finite(focal, distortion):
    k = (focal[0], 0.0, 319.5, 0.0, focal[1], 199.5, 0.0, 0.0, 1.0)
    view = GroundView(camera_model("plumb_bob", (400, 640), k, distortion), POSE, GroundConfig())
    frame = found((100, 300, 50, 50), (300, 250, 50, 50))
    ground = locate(frame, view.camera, view.pose, view.config)
    assert np.isfinite(ground.points.xyz).all()
    assert all(np.isfinite([*each.box_xyz, *each.size_xyz, each.range_m]).all() for each in ground.obstacles)
    assert (scan(ground, frame, view) != -np.inf).all()
