"""Obstacles that the node follows from image to image, over real DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from eomt_ext_core.visualization import BOX_RGB
from eomt_ext_ros.messages.images import to_image_msg, to_rgb
from eomt_ext_ros.messages.obstacle_messages import CLOUD_FIELDS


def image(number, *lefts, red=250, stamp_s=None):
    """Red squares on black, whose probability the stand-in takes from the red; 10 Hz."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    for left in lefts:
        pixels[20:32, left : left + 12, 0] = red
    stamp_s = 1000 + number / 10 if stamp_s is None else stamp_s
    return to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=int(stamp_s), nanosec=round(stamp_s % 1 * 1e9))))


def ids(cloud):
    """Of the obstacles of a message, from left to right."""
    rows = np.frombuffer(cloud.data, np.float32).reshape(-1, len(CLOUD_FIELDS))
    rows = rows[np.argsort(rows[:, 0])]
    return [(int(row[CLOUD_FIELDS.index("track_id")]), float(row[CLOUD_FIELDS.index("u")])) for row in rows]


def test_ids_stay_and_what_is_missed_coasts(stand_in):
    rig = stand_in()
    rig.start("obstacles", "mask")
    for number in range(4):
        found = ids(rig.answer(image(number, 5 + 3 * number, 60), "obstacles"))
        assert found == [(1, 11 + 3 * number), (2, 66)]
    (track, u), _ = ids(rig.answer(image(4, 60), "obstacles"))
    assert track == 1
    assert u == pytest.approx(11 + 3 * 4, abs=2)
    rig.spin_until(lambda: len(rig.messages("mask")) == 5, "the mask")
    assert not np.frombuffer(rig.messages("mask")[-1].data, np.uint8).reshape(48, 80)[:, :55].any(), "of the image"
    values = {item.key: item.value for item in rig.diagnostics()["camera"].values}
    assert values["tracks"] == "1 coasting, 1 confirmed"


def test_only_confirmed_ones_if_so_wished_and_live(stand_in):
    rig = stand_in(obstacles__confirmed_only=True)
    rig.start("obstacles")
    assert [len(ids(rig.answer(image(number, 20), "obstacles"))) for number in range(3)] == [0, 1, 1]
    assert [len(ids(rig.answer(image(number, 20, 60), "obstacles"))) for number in (3, 4)] == [1, 2]
    assert rig.set(tracking__enabled=False).startswith("confirmed_only needs tracking, which is off")
    assert rig.set(obstacles__confirmed_only=False, tracking__enabled=False) == ""
    assert ids(rig.answer(image(5, 20), "obstacles")) == [(0, 26.0)]


def test_each_camera_has_its_own_and_a_jump_of_time_starts_over(stand_in):
    rig = stand_in(cameras=["front", "rear"])
    rig.start("obstacles")
    for camera in ("front", "rear"):
        assert [each for each, _ in ids(rig.answer(image(0, 5, 60), "obstacles", camera))] == [1, 2]
    assert [each for each, _ in ids(rig.answer(image(0, 5, stamp_s=500), "obstacles", "rear"))] == [3]
    assert [each for each, _ in ids(rig.answer(image(1, 5, 60), "obstacles", "front"))] == [1, 2]


def test_images_without_stamps_are_followed_too(stand_in):
    rig = stand_in()
    rig.start("obstacles")
    found = [ids(rig.answer(image(0, 20 + 2 * number, stamp_s=0), "obstacles")) for number in range(3)]
    assert [[each for each, _ in row] for row in found] == [[1]] * 3


def test_the_overlay_writes_the_id_above_the_box(stand_in):
    rig = stand_in(overlay_opacity=0.0)
    rig.start("overlay")
    pictures = []
    for enabled in (True, False):
        assert rig.set(tracking__enabled=enabled) == ""
        pictures.append(to_rgb(rig.answer(image(enabled, 20, stamp_s=1 + enabled), "overlay")))
    written = (pictures[0] != pictures[1]).any(axis=2)
    rows, columns = np.nonzero(written)
    assert rows.max() <= 20
    assert (rows.min(), columns.min()) >= (5, 18)
    assert (pictures[0][written] == BOX_RGB).all(axis=1).any()
