"""Obstacles that the node follows from image to image, over real DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from eomt_ext_core.visualization import BOX_RGB
from eomt_ext_ros.messages.images import to_image_msg, to_rgb

# vision_msgs is in no wheel: ids are read from the points on the ground, which seen obstacles have.
ON_GROUND = {"ground__height_m": 1.5, "ground__max_range_m": 20.0}


def image(number, *lefts, red=250, stamp_s=None):
    """Red squares on black, whose probability the stand-in takes from the red; 10 Hz."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    for left in lefts:
        pixels[20:32, left : left + 12, 0] = red
    stamp_s = 1000 + number / 10 if stamp_s is None else stamp_s
    stamp = Time(sec=int(stamp_s), nanosec=round(stamp_s % 1 * 1e9))
    return to_image_msg(pixels, "rgb8", Header(stamp=stamp, frame_id="camera"))


def calibrate(rig, camera=""):
    info = CameraInfo(header=Header(frame_id="camera"), height=48, width=80, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k[:] = [100.0, 0.0, 39.5, 0.0, 100.0, 9.5, 0.0, 0.0, 1.0]
    rig.send_camera_info(info, *([camera] if camera else []))


def ids(cloud):
    """Of the obstacles of a message, from left to right."""
    kinds = [(field.name, "<i4" if field.name == "id" else "<f4") for field in cloud.fields]
    points = np.frombuffer(cloud.data, kinds)
    return list(dict.fromkeys(points["id"][np.argsort(-points["y"] / points["x"])].tolist()))


def test_ids_stay_and_what_is_missed_coasts(stand_in):
    rig = stand_in(**ON_GROUND)
    rig.start("obstacle_points")
    calibrate(rig)
    for number in range(4):
        assert ids(rig.answer(image(number, 5 + 3 * number, 60), "obstacle_points")) == [1, 2]
    assert ids(rig.answer(image(4, 60), "obstacle_points")) == [2]
    values = {item.key: item.value for item in rig.diagnostics()["camera"].values}
    assert values["tracks"] == "1 coasting, 1 confirmed"
    assert ids(rig.answer(image(5, 20, 60), "obstacle_points")) == [1, 2]


def test_only_confirmed_ones_if_so_wished_and_live(stand_in):
    rig = stand_in(obstacles__confirmed_only=True, tracking__confirm_frames=2, **ON_GROUND)
    rig.start("obstacle_points")
    calibrate(rig)
    assert [len(ids(rig.answer(image(number, 20), "obstacle_points"))) for number in range(3)] == [0, 1, 1]
    assert [len(ids(rig.answer(image(number, 20, 60), "obstacle_points"))) for number in (3, 4)] == [1, 2]
    assert rig.set(tracking__enabled=False).startswith("confirmed_only needs tracking, which is off")
    assert rig.set(obstacles__confirmed_only=False, tracking__enabled=False) == ""
    assert len(ids(rig.answer(image(5, 20), "obstacle_points"))) == 1


def test_each_camera_has_its_own_and_a_jump_of_time_starts_over(stand_in):
    rig = stand_in(cameras=["front", "rear"], tracking__confirm_frames=2)
    rig.start("mask")
    tracks = lambda camera: {item.key: item.value for item in rig.diagnostics()[f"camera {camera}"].values}["tracks"]  # noqa: E731
    for number in range(2):
        for camera, lefts in (("front", (5, 60)), ("rear", (5,))):
            rig.answer(image(number, *lefts), "mask", camera)
    assert (tracks("front"), tracks("rear")) == ("2 confirmed", "1 confirmed")
    rig.answer(image(0, 5, stamp_s=2000), "mask", "rear")
    assert (tracks("front"), tracks("rear")) == ("2 confirmed", "1 tentative")


def test_images_without_stamps_are_followed_too(stand_in):
    rig = stand_in(**ON_GROUND)
    rig.start("obstacle_points")
    calibrate(rig)
    found = [ids(rig.answer(image(0, 20 + 2 * number, stamp_s=0), "obstacle_points")) for number in range(3)]
    assert found == [[1]] * 3


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
