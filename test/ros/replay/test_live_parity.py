"""The live node and the replay say the same of the same frames."""

import numpy as np
import pytest

from eomt_ext_ros.bags.messages import plane

pytest.importorskip("rclpy")


def test_node_and_replay_publish_the_same_images(rig, image_msg, write_bag, replay, read_outputs):
    from rclpy.serialization import serialize_message

    sent = [image_msg(seed) for seed in range(5)]
    rig.start("probability", "mask", "overlay")
    for msg in sent:
        rig.answer(msg, "overlay")
    stamps = [1000 * 10**9 + seed for seed in range(5)]
    bag = write_bag(
        "drive", [("/camera/image", "raw", s, serialize_message(m)) for s, m in zip(stamps, sent, strict=True)]
    )

    assert replay(bag).status == 0
    replayed = read_outputs(bag.path.parent / "out" / "annotated")
    for name in ("probability", "mask", "overlay"):
        rig.spin_until(lambda name=name: len(rig.messages(name)) == 5, f"all answers on {name}")
        offline = [msg for _, msg in replayed[f"/eomt_ext/output/{name}"]]
        for live, again in zip(rig.messages(name), offline, strict=True):
            assert (live.header.stamp.sec, live.header.stamp.nanosec, live.header.frame_id) == (
                again.header.stamp.sec,
                again.header.stamp.nanosec,
                again.header.frame_id,
            )
            assert (live.encoding, live.step, live.is_bigendian) == (again.encoding, again.step, again.is_bigendian)
            np.testing.assert_array_equal(plane(live), plane(again))
