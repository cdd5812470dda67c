"""Two batches in flight, over real DDS."""

import threading

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Header
from std_srvs.srv import Trigger

from eomt_ext_ros.messages.images import to_image_msg, to_rgb


@pytest.fixture
def device(on_device, image_msg):
    """Build rigs with the images 1 and 2 on the device."""
    engines = []

    def make(*outputs, **parameters):
        rig = on_device(**parameters)
        rig.start(*outputs)
        engines.append(rig.engine)
        rig.engine.may_go_on.clear()
        rig.send(image_msg(1))
        rig.spin_until(lambda: rig.engine.batches, "image 1 to be submitted")
        rig.send(image_msg(2))
        rig.engine.may_go_on.set()
        rig.spin_until(lambda: rig.engine.on_device == 2, "image 2 to be submitted")
        return rig

    yield make
    for engine in engines:
        engine.may_arrive.release(100)


def arrive(rig, count=1):
    rig.engine.may_arrive.release(count)


def stamps(rig, output):
    return [msg.header.stamp.nanosec for msg in rig.messages(output)]


def test_the_newest_image_is_next_and_stamps_stay_in_order(device, image_msg):
    rig = device("probability", "overlay")
    for seed in (3, 4, 5):
        rig.send(image_msg(seed))
    assert rig.engine.on_device == 2, "never more"
    assert stamps(rig, "probability") == []
    arrive(rig)
    rig.spin_until(lambda: len(rig.engine.batches) == 3, "image 5 to be submitted")
    rig.spin_until(lambda: stamps(rig, "probability") == [1], "image 1")
    assert rig.engine.on_device == 2
    arrive(rig, 2)
    rig.spin_until_counted("published", 3)
    for output in ("probability", "overlay"):
        rig.spin_until(lambda output=output: stamps(rig, output) == [1, 2, 5], output)
    for seed, msg in zip((1, 2, 5), rig.messages("probability"), strict=True):
        red = to_rgb(image_msg(seed))[..., 0].astype(np.float32) / 255
        np.testing.assert_array_equal(np.frombuffer(msg.data, np.float32).reshape(48, 80), red)
    assert dict(rig.node.counts) == {"received": 5, "dropped": 2, "published": 3}
    assert rig.engine.most_on_device == 2


def test_a_batch_keeps_the_settings_that_it_began_with(device, image_msg):
    rig = device("mask")
    assert rig.set(threshold=1.0) == ""
    rig.send(image_msg(3))
    arrive(rig, 3)
    rig.spin_until_counted("published", 3)
    rig.spin_until(lambda: stamps(rig, "mask") == [1, 2, 3], "the masks")
    assert [bool(np.any(msg.data)) for msg in rig.messages("mask")] == [True, True, False]


@pytest.mark.parametrize("end", ["deactivate", "reload", "shutdown"])
def test_both_are_published_before_the_end(device, image_msg, end):
    rig = device("probability")
    rig.send(image_msg(3))
    timer = threading.Timer(0.2, arrive, [rig, 2])
    timer.start()
    if end == "reload":
        old = rig.engine
        assert rig.call(Trigger, "reload", Trigger.Request()).success
        assert rig.engine is not old
        arrive(rig)
        rig.spin_until_counted("published", 3)
        assert (len(old.batches), len(rig.engine.batches)) == (2, 1)
    else:
        assert rig.change_state(end)
        assert rig.node.counts["published"] == 2
        assert rig.node.counts["dropped"] == 1
    timer.join()
    rig.spin_until(lambda: stamps(rig, "probability")[:2] == [1, 2], "both images")


def test_an_image_that_needs_no_inference_does_not_overtake(device, image_msg):
    rig = device("probability", "camera_info", outputs=["probability", "camera_info"])
    rig.cameras[""].info = rig.cameras[""].info or calibration(image_msg(1))
    arrive(rig)
    rig.spin_until(lambda: stamps(rig, "camera_info") == [1], "image 1")
    assert rig.set(outputs=["camera_info"]) == ""
    rig.send(image_msg(3))
    assert stamps(rig, "camera_info") == [1], "image 2 is on the device"
    arrive(rig)
    rig.spin_until(lambda: stamps(rig, "camera_info") == [1, 2, 3], "both others")


def calibration(msg):
    from sensor_msgs.msg import CameraInfo

    return CameraInfo(header=msg.header, height=48, width=80)


def test_statistics_are_those_of_one_at_a_time(device, image_msg):
    rig = device("probability")
    rig.send(to_image_msg(to_rgb(image_msg(3)), "rgb8", Header(stamp=image_msg(1).header.stamp)))
    arrive(rig)
    rig.spin_until_counted("rejected/stale")
    arrive(rig)
    rig.spin_until_counted("published", 2)
    assert "newest image rejected" in rig.diagnostics()["camera"].message
    arrive(rig)
    rig.answer(image_msg(4))
    assert "rejected" not in rig.diagnostics()["camera"].message
    assert dict(rig.node.counts) == {"received": 4, "published": 3, "rejected/stale": 1}


def test_the_real_engine_answers_as_it_does_alone(make_rig, engine, image_msg):
    rig = make_rig(in_flight=2)
    rig.start("probability")
    for seed in range(1, 31):
        rig.publishers[""][0].publish(image_msg(seed))
    rig.answer(image_msg(31))
    heard = stamps(rig, "probability")
    assert heard == sorted(set(heard))
    for msg in rig.messages("probability"):
        expected = engine.infer(to_rgb(image_msg(msg.header.stamp.nanosec))).probability
        np.testing.assert_array_equal(np.frombuffer(msg.data, np.float32).reshape(48, 80), expected)
