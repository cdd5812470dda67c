"""A camera that is not well is told of, latched, and withheld if it must be well: over real DDS."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from eomt_ext_core.scenes import SceneConfig, SceneVideo
from eomt_ext_ros.messages.images import to_image_msg

OK, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
IMAGE = SceneVideo(3, SceneConfig(size_hw=(96, 160))).frame(0).image_rgb


def message(pixels, index):
    header = Header(stamp=Time(sec=100 + index // 10, nanosec=index % 10 * 100_000_000), frame_id="camera_optical")
    return to_image_msg(pixels, "rgb8", header)


def noisy(index):
    noise = np.random.default_rng(index).standard_normal(IMAGE.shape)
    return np.clip(np.rint(IMAGE + noise), 0, 255).astype(np.uint8)


def latched(rig):
    """The newest message of a subscriber that comes late."""
    heard = []
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = rig.client.create_subscription(DiagnosticStatus, "/eomt_ext/output/health", heard.append, profile)
    rig.spin_until(lambda: heard, "what is latched on health")
    rig.client.destroy_subscription(subscription)
    return heard[-1]


def test_a_frozen_camera_is_told_of_and_its_mask_goes_on(stand_in):
    rig = stand_in(health__enabled=True)
    rig.start("mask")
    assert latched(rig).level == STALE
    for index in range(6):
        rig.answer(message(noisy(index), index), "mask")
    assert (latched(rig).level, latched(rig).values) == (OK, [])
    for index in range(6, 12):
        rig.answer(message(IMAGE, index), "mask")
    status = latched(rig)
    assert (status.level, status.name, status.hardware_id) == (ERROR, "eomt_ext: camera", "/eomt_ext/input/image")
    assert [(item.key, item.value) for item in status.values] == [("frozen", "100.700")]
    camera = rig.diagnostics()["camera"]
    assert camera.level == ERROR
    assert "camera is not well: frozen since the stamp 100.700" in camera.message
    assert rig.set(health__enabled=False) == ""
    rig.answer(message(IMAGE, 12), "mask")
    assert latched(rig).level == STALE


def test_required_health_withholds_outputs(stand_in):
    rig = stand_in(health__enabled=True, health__leave_s=0.15)
    rig.start("mask")
    assert rig.set(health__require=True) == ""
    for index in range(3):
        rig.answer(message(np.zeros_like(IMAGE), index), "mask")
    rig.send(message(np.zeros_like(IMAGE), 3))
    rig.spin_until_counted("rejected/unhealthy")
    assert "newest image rejected: with health.require the camera must be well" in rig.diagnostics()["camera"].message
    rig.send(message(noisy(4), 4))
    rig.spin_until_counted("rejected/unhealthy", 2)
    rig.answer(message(noisy(5), 5), "mask")


def test_the_road_above_the_sky_is_seen_where_classes_are_computed(stand_in):
    rig = stand_in(health__enabled=True, health__enter_s=0.0)
    rig.start("semantic")
    rig.engine.class_names = ("road", "sky")  # the stand-in takes green for the second
    pixels = IMAGE.copy()
    pixels[:48, :, 1], pixels[48:, :, 1] = pixels[:48, :, 1] // 2, 128 + pixels[48:, :, 1] // 2
    rig.answer(message(pixels, 0), "semantic")
    assert [item.key for item in latched(rig).values] == ["upside_down"]


def test_health_alone_is_judged_and_nothing_inferred(stand_in):
    rig = stand_in(health__enabled=True, health__enter_s=0.0)
    rig.start("health")
    rig.send(message(noisy(0), 0))
    rig.spin_until_counted("skipped")
    rig.spin_until(lambda: rig.messages("health"), "health")
    assert rig.messages("health")[-1].level == OK
    assert rig.engine.batches == []
    assert "health alone is subscribed to" in rig.diagnostics()["camera"].message
