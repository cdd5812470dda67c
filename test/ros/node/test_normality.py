"""The scores of a normality file in the node, and what the node says when the drive is another one."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from eomt_ext_ros.diagnostics.snapshot import observe
from eomt_ext_ros.diagnostics.status import build_statuses


def noise(number, low, high):
    pixels = np.random.default_rng(number).integers(low, high, (48, 80, 3), np.uint8)
    msg = Image(height=48, width=80, encoding="rgb8", step=240)
    msg.header.stamp.sec = 1_000_000_000 + number
    msg.data.frombytes(pixels.tobytes())
    return msg


def camera_status(rig):
    return build_statuses(observe(rig.node), rig.node.config.diagnostics)[1]


@pytest.fixture
def watching(make_rig, tiny_normality):
    rig = make_rig(normality=str(tiny_normality), score="fused")
    rig.start("probability")
    return rig


def test_another_road_is_told_and_dated_until_it_is_not_watched(watching):
    for number in range(5):
        watching.answer(noise(number, 0, 60))
    assert "stranger" not in camera_status(watching).message
    for number in range(5, 25):
        watching.answer(noise(number, 0, 256))
    status = camera_status(watching)
    assert status.level == status.WARN
    assert "since 2001-09-09 01:46:4" in status.message
    watching.set(drift_alpha=0.0)
    watching.answer(noise(30, 0, 60))
    assert "stranger" not in camera_status(watching).message


def test_a_score_that_needs_the_file_is_refused_without_it(rig):
    rig.start("probability")
    assert "learn-normal" in rig.set(score="fused")


def test_reload_takes_up_a_normality_file(rig, tiny_normality):
    rig.start("probability")
    assert rig.set(normality=str(tiny_normality)) == ""
    assert rig.call(Trigger, "reload", Trigger.Request()).success
    assert rig.set(score="normality") == ""
    assert rig.answer(noise(0, 0, 60)).encoding == "32FC1"
