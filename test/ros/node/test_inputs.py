"""What comes in and in which size it goes out: compressed images, calibrations, scale."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from eomt_ext_ros.bags.messages import plane
from eomt_ext_ros.messages.images import decompress, to_image_msg


def compressed(extension, stamp=1):
    pixels_bgr = np.zeros((48, 80, 3), np.uint8)
    pixels_bgr[8:40, 16:64, 2] = 255  # a red box
    data = cv2.imencode(extension, pixels_bgr)[1].tobytes()
    msg = CompressedImage(header=Header(stamp=Time(sec=stamp), frame_id="front"), format=extension[1:])
    msg.data.frombytes(data)
    return msg


def camera_info():
    info = CameraInfo(header=Header(frame_id="front"), height=48, width=80)
    info.k = np.array([90.0, 0, 39.5, 0, 90, 23.5, 0, 0, 1])
    info.p = np.array([90.0, 0, 39.5, 0, 0, 90, 23.5, 0, 0, 0, 1, 0])
    return info


def test_jpeg_and_png_are_answered_and_a_truncated_one_is_counted(stand_in):
    rig = stand_in(image_transport="compressed")
    rig.start("probability")
    for stamp, extension in enumerate((".jpg", ".png"), start=1):
        answer = rig.answer(compressed(extension, stamp))
        assert answer.header == compressed(extension, stamp).header
        assert plane(answer)[24, 40] > 0.9
        assert plane(answer)[2, 2] < 0.1
    for extension, reason in ((".jpg", "decode"), (".png", "decode"), (".bmp", "encoding")):
        msg = compressed(extension, 9)
        msg.data = msg.data[: len(msg.data) // 2]
        before = rig.node.counts[f"rejected/{reason}"]
        rig.send(msg)
        rig.spin_until_counted(f"rejected/{reason}", before + 1)
    assert rig.answer(compressed(".png", 10)).header.stamp.sec == 10
    assert len(rig.messages("probability")) == 3


def test_a_compressed_mosaic_is_answered_in_its_colours(stand_in, capfd):
    rig = stand_in(image_transport="compressed")
    rig.start("probability")
    tile = np.array([[50, 100], [100, 200]], np.uint8)  # blue, green / green, red
    data = cv2.imencode(".png", np.tile(tile, (24, 40)))[1].tobytes()
    for stamp, target in enumerate(("", "bayer_bggr8", "mono8", "mono8", ""), start=1):
        msg = CompressedImage(header=Header(stamp=Time(sec=stamp)), format=f"bayer_bggr8; jpeg compressed {target}")
        msg.data.frombytes(data)
        np.testing.assert_allclose(plane(rig.answer(msg)), 200 / 255, atol=1e-6)
        assert ("image without colours" in capfd.readouterr().err) == (stamp == 3), (
            "once, and only if the format says so"
        )
        is_lost = "image without colours: its publisher converted" in rig.diagnostics()["camera"].message
        assert is_lost == (target == "mono8")


def test_publish_scale_is_live_for_images_and_calibration(stand_in):
    rig = stand_in(image_transport="compressed", publish_scale=0.5)
    outputs = ("probability", "mask", "overlay", "heatmap", "semantic", "confidence", "camera_info")
    rig.start(*outputs)
    rig.send_camera_info(camera_info())
    for stamp, (scale, height, width) in enumerate([(0.5, 24, 40), (0.25, 12, 20), (1.0, 48, 80)], start=1):
        assert rig.set(publish_scale=scale) == ""
        info = rig.answer(compressed(".png", stamp), "camera_info")
        rig.spin_until(lambda: {len(rig.messages(name)) for name in outputs} == {stamp}, "all outputs")  # noqa: B023
        for name in outputs:
            msg = rig.messages(name)[-1]
            assert msg.header.stamp.sec == stamp
            assert (msg.height, msg.width) == (height, width), name
        np.testing.assert_allclose(info.k[[0, 2, 5]], (90 * scale, 40 * scale - 0.5, 24 * scale - 0.5))
    assert "out of range" in rig.set(publish_scale=0.0)


def test_calibration_of_another_size_is_withheld(rig, image_msg, capfd):
    rig.start("probability", "camera_info")
    info = camera_info()
    info.header.frame_id, info.width = "camera_optical", 160
    rig.send_camera_info(info)
    rig.answer(image_msg(1))
    info.width = 80
    rig.send_camera_info(info)
    rig.answer(image_msg(2), "camera_info")
    assert len(rig.messages("camera_info")) == 1
    assert "image's size 80×48 to go with it, got 160×48" in capfd.readouterr().err
    assert rig.node.counts["withheld/camera_info"] == 1


def test_where_no_calibration_comes_in_it_is_said_once(stand_in, image_msg, capfd):
    rig = stand_in(cameras=["front", "rear"])
    rig.start("probability", "camera_info")
    for seed in range(12):
        rig.answer(image_msg(seed), camera="front")
        if seed < 9:
            rig.answer(image_msg(seed), camera="rear")
    err = capfd.readouterr().err
    assert err.count("camera_info of front withheld: none comes in on ~/front/input/camera_info") == 1
    assert "camera_info of rear" not in err
    assert rig.node.statistics["front"].counts["withheld/camera_info"] == 12
    assert rig.node.statistics["rear"].counts["withheld/camera_info"] == 9


def test_late_calibration_is_not_reported_as_missing(stand_in, image_msg, capfd):
    rig = stand_in()
    rig.start("probability", "camera_info")
    for turn in range(11):
        rig.answer(image_msg(3 * turn))
        info = camera_info()
        info.header.frame_id = "camera_optical"
        rig.send_camera_info(info)
        rig.answer(image_msg(3 * turn + 1), "camera_info")
        assert rig.change_state("deactivate")
        assert rig.change_state("activate")
        rig._find_inputs()
    assert rig.node.counts["withheld/camera_info"] == 11
    assert "none comes in" not in capfd.readouterr().err


def test_an_image_without_an_answer_counts_no_output_withheld(stand_in, image_msg):
    rig = stand_in()
    rig.start("camera_info")
    rig.send(image_msg(1))
    rig.spin_until_counted("skipped")
    assert rig.node.counts == {"received": 1, "skipped": 1}


def test_results_never_run_backwards_but_a_bag_may_start_over(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    msg = image_msg(500)
    rig.answer(msg)
    for seed in (500, 499):
        rig.send(image_msg(seed))
        rig.spin_until_counted("rejected/stale", 501 - seed)
    rig.answer(image_msg(501))
    msg.header.stamp.sec -= 10
    rig.answer(msg)
    assert [each.header.stamp.sec for each in rig.messages("probability")] == [1000, 1000, 990]


def test_answers_come_no_faster_than_asked_for(stand_in, image_msg):
    rig = stand_in(max_rate_hz=0.001)
    rig.start("probability")
    rig.answer(image_msg(1))
    for seed in (2, 3):
        rig.send(image_msg(seed))
    assert rig.node.counts["published"] == 1
    assert rig.set(max_rate_hz=0.0) == ""
    rig.spin_until_counted("published", 2)
    rig.spin_until(lambda: len(rig.messages("probability")) == 2, "the newest image's answer")
    assert rig.messages("probability")[-1].header == image_msg(3).header


def test_a_visualisation_comes_as_a_jpeg_too(stand_in):
    rig = stand_in(colour_map="viridis")
    rig.start("heatmap", "heatmap/compressed", "overlay/compressed")
    pixels = np.repeat(np.array([[255, 0, 90, 180, 30]], np.uint8), 16, axis=1)[..., None].repeat(48, 0).repeat(3, 2)
    heatmap = rig.answer(to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=1))), "heatmap")
    rig.spin_until(lambda: all(rig.messages(f"{name}/compressed") for name in ("heatmap", "overlay")), "the JPEGs")
    msg = rig.messages("heatmap/compressed")[0]
    assert (msg.header, msg.format) == (heatmap.header, "rgb8; jpeg compressed bgr8")
    difference = decompress(msg).astype(int) - np.frombuffer(heatmap.data, np.uint8).reshape(48, 80, 3)
    assert np.abs(difference).mean() < 3, "the channels are in their places"
