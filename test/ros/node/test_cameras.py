"""Several cameras in one node, over real DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from rclpy.lifecycle import TransitionCallbackReturn

from eomt_ext_core import ConfigError
from eomt_ext_ros.bags.messages import plane
from eomt_ext_ros.parameters.node_config import NodeConfig

CAMERAS = ["front", "left", "rear"]


@pytest.fixture
def ring(stand_in):
    """A node of three cameras."""
    rig = stand_in(cameras=CAMERAS)
    rig.start("probability")
    return rig


def headers(rig, camera):
    return [msg.header for msg in rig.messages(f"{camera}/probability")]


def test_waiting_cameras_share_a_batch_and_keep_their_headers(ring, image_msg):
    engine = ring.engine
    engine.may_go_on.clear()
    ring.send(image_msg(1, "front"), "front")
    ring.spin_until(lambda: engine.batches == [1], "the first image to be worked on")
    sent = {camera: image_msg(10 + index, camera) for index, camera in enumerate(CAMERAS)}
    for camera, msg in sent.items():
        ring.send(image_msg(2, "replaced"), camera)
        ring.send(msg, camera)
    engine.may_go_on.set()
    ring.spin_until_counted("published", 4)
    for camera, msg in sent.items():
        ring.spin_until(lambda camera=camera, msg=msg: msg.header in headers(ring, camera), f"{camera}'s answer")
        answer = ring.messages(f"{camera}/probability")[-1]
        np.testing.assert_array_equal(plane(answer), plane(msg)[..., 0].astype(np.float32) / 255)
    assert engine.batches == [1, 3]
    assert {camera: ring.node.statistics[camera].counts["dropped"] for camera in CAMERAS} == dict.fromkeys(CAMERAS, 1)


def test_visualisation_only_camera_delays_no_other(stand_in, image_msg, may_draw):
    rig = stand_in(cameras=CAMERAS)
    rig.start()
    rig.listen("overlay", "front")
    rig.listen("mask", "left")
    for seed in (1, 2, 3):  # as many as may be unfinished
        rig.send(image_msg(seed), "front")
        rig.spin_until(lambda seed=seed: len(rig.engine.batches) == seed, "inference")
    rig.engine.may_go_on.clear()
    rig.send(image_msg(4), "left")
    rig.spin_until(lambda: len(rig.engine.batches) == 4, "an image to be worked on")
    for camera in ("front", "left"):
        rig.send(image_msg(5), camera)
    rig.engine.may_go_on.set()
    rig.spin_until(lambda: len(rig.messages("left/mask")) == 2, "both masks")
    assert rig.engine.batches == [1, 1, 1, 1, 2]
    assert rig.messages("front/overlay") == []
    may_draw.set()
    rig.spin_until(lambda: len(rig.messages("front/overlay")) == 4, "the overlays")
    rig.spin_until_counted("published", 6)


def test_malformed_image_costs_others_nothing(ring, image_msg):
    ring.engine.may_go_on.clear()
    ring.send(image_msg(1), "front")
    ring.spin_until(lambda: ring.engine.batches, "the first image to be worked on")
    broken = image_msg(2)
    broken.height += 1
    ring.send(broken, "front")
    for camera in ("left", "rear"):
        ring.send(image_msg(2, camera), camera)
    ring.engine.may_go_on.set()
    ring.spin_until_counted("published", 3)
    assert ring.engine.batches == [1, 2]
    counts = {camera: dict(ring.node.statistics[camera].counts) for camera in CAMERAS}
    assert counts["front"] == {"received": 2, "published": 1, "rejected/size": 1}
    assert counts["left"] == counts["rear"] == {"received": 1, "published": 1}


def test_dead_camera_is_reported_and_delays_nobody(ring, image_msg):
    assert ring.set(diagnostics__silent_after_s=0.5) == ""

    def answered(camera):
        return ring.answer(ring.stamped(image_msg(1)), camera=camera)

    for camera in CAMERAS:
        answered(camera)
    ring.disconnect("left")
    statuses = ring.diagnostics()
    while statuses["camera left"].level == b"\x00":
        for camera in ("front", "rear"):
            answered(camera)
        statuses = ring.diagnostics()
    assert {camera: statuses[f"camera {camera}"].level for camera in ("front", "rear")} == {
        "front": b"\x00",
        "rear": b"\x00",
    }
    assert "no image on /eomt_ext/left/input/image" in statuses["camera left"].message
    assert "0 publishers, subscribed as best effort" in statuses["camera left"].message
    ring.connect("left")
    ring._find_inputs()
    answered("left")
    assert ring.diagnostics()["camera left"].level == b"\x00"


def test_each_camera_has_its_own_polygon_and_its_own_time(stand_in, image_msg):
    everything, left_half = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.5, 0.0, 0.5, 1.0, 0.0, 1.0]
    rig = stand_in(
        cameras=["front", "left"],
        obstacles__region="polygon",
        obstacles__polygon=everything,
        front__polygon=left_half,
    )
    rig.start("mask")
    red = image_msg(5)
    red.data[:] = type(red.data)("B", b"\xff" * len(red.data))
    for camera, width in (("front", 41), ("left", 80)):  # the outline's pixels are inside
        mask = plane(rig.answer(red, "mask", camera))
        np.testing.assert_array_equal(mask.any(axis=0), np.arange(80) < width, err_msg=camera)
    assert rig.set(front__polygon=[0.5, 0.0, 1.0, 0.0, 1.0, 1.0]) == ""
    assert rig.set(left__polygon=[0.5, 0.0]).startswith("camera left: polygon must be")
    red.header.stamp.nanosec += 1
    assert not plane(rig.answer(red, "mask", "front"))[:, :39].any()


def test_a_camera_without_a_polygon_is_named(stand_in):
    triangle = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    rig = stand_in(cameras=["front", "rear"], front__polygon=triangle, obstacles__region="polygon")
    assert not rig.change_state("configure")
    assert "camera rear: region polygon needs a polygon, got none" in rig.diagnostics()["inference"].message
    assert rig.set(rear__polygon=triangle) == ""
    assert rig.change_state("configure")
    assert rig.set(front__polygon=[]).startswith("camera front: region polygon needs a polygon, got none")


def test_limited_batch_gives_every_camera_its_turn(stand_in, image_msg):
    rig = stand_in(cameras=CAMERAS, max_batch_cameras=2)
    rig.start("probability")
    rig.engine.may_go_on.clear()
    rig.send(image_msg(1), "front")
    rig.spin_until(lambda: rig.engine.batches, "the first image to be worked on")
    for camera in CAMERAS:
        rig.send(image_msg(2), camera)
    rig.engine.may_go_on.set()
    rig.spin_until_counted("published", 4)
    assert rig.engine.batches == [1, 2, 1]
    assert rig.set(max_batch_cameras=0) == ""


def test_topics_and_parameters_follow_the_names(stand_in):
    rig = stand_in()
    assert rig.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert rig.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert rig.set(cameras=["front"]) == ""
    assert rig.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert rig.node.has_parameter("front.polygon")
    assert "cameras can change only while the node is unconfigured" in rig.set(cameras=["rear"])
    names = {publisher.topic_name for publisher in rig.cameras["front"].publishers.values()}
    assert "/eomt_ext/front/output/probability" in names


@pytest.mark.parametrize("names", [("a b",), ("1st",), ("a__b",), ("front", "front"), ("input",), ("outputs",), ("é",)])
def test_names_that_make_no_topics_are_refused(names):
    with pytest.raises(ConfigError, match=r"cameras must be|cameras must have"):
        NodeConfig(cameras=names)
