"""Images through the node, over real DDS."""

import threading

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from eomt_ext_core.visualization import heatmap, overlay
from eomt_ext_ros.diagnostics import publisher as diagnostics
from eomt_ext_ros.diagnostics.snapshot import observe
from eomt_ext_ros.messages import images
from eomt_ext_ros.messages.images import DECODED_ENCODINGS, to_image_msg, to_rgb
from eomt_ext_ros.outputs import registry, rendering

IMAGE_OUTPUTS = ("probability", "mask", "overlay", "heatmap")


def pixels_of(msg):
    dtype, channels = {"32FC1": (np.float32, ()), "mono8": (np.uint8, ()), "rgb8": (np.uint8, (3,))}[msg.encoding]
    return np.frombuffer(msg.data, dtype).reshape(msg.height, msg.width, *channels)


def stamp_of(msg):
    return msg.header.stamp.sec, msg.header.stamp.nanosec


def camera_info(frame_id, sec=1):
    return CameraInfo(header=Header(stamp=Time(sec=sec), frame_id=frame_id), height=48, width=80, k=np.arange(9.0))


class SlowEngine:
    """Holds the node's engine back until it may go on, and counts its calls."""

    def __init__(self, node):
        self.calls = 0
        self.may_go_on = threading.Event()
        self._engine = node.session.context.engine
        self._infer_batch = self._engine.infer_batch
        self._engine.infer_batch = self.infer_batch

    def infer_batch(self, images_rgb, **kwargs):
        self.calls += 1
        assert self.may_go_on.wait(30)
        return self._infer_batch(images_rgb, **kwargs)


def test_outputs_equal_the_engines_and_keep_the_header(make_rig, engine, image_msg):
    rig = make_rig(tracking__enabled=False)  # no ids in the overlay
    rig.start(*IMAGE_OUTPUTS)
    for seed, frame_id in ((3, "front"), (4, "rear/optical"), (999_999_999, "")):
        msg = image_msg(seed, frame_id)
        rig.answer(msg, "heatmap")
        rig.spin_until(lambda: len({len(rig.messages(name)) for name in IMAGE_OUTPUTS}) == 1, "all four outputs")
        answers = {name: rig.messages(name)[-1] for name in IMAGE_OUTPUTS}
        assert all(answer.header == msg.header for answer in answers.values())
        image_rgb = to_rgb(msg)
        frame = engine.infer(image_rgb)
        np.testing.assert_array_equal(pixels_of(answers["probability"]), frame.probability)
        np.testing.assert_array_equal(pixels_of(answers["mask"]), np.where(frame.mask, 255, 0))
        np.testing.assert_array_equal(pixels_of(answers["heatmap"]), heatmap(frame.probability))
        np.testing.assert_array_equal(
            pixels_of(answers["overlay"]), overlay(image_rgb, frame.probability, frame.mask, 0.75)
        )
    encodings = {name: answer.encoding for name, answer in answers.items()}
    assert encodings == {"probability": "32FC1", "mask": "mono8", "overlay": "rgb8", "heatmap": "rgb8"}


def test_images_of_changing_size_are_published_in_their_size(rig, engine):
    rig.start("probability")
    for count, (height, width) in enumerate([(48, 80), (31, 97), (64, 32), (48, 80)]):
        pixels = np.random.default_rng(count).integers(0, 256, (height, width, 3), np.uint8)
        answer = rig.answer(to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=count))))
        np.testing.assert_array_equal(pixels_of(answer), engine.infer(pixels).probability)


def test_every_encoding_that_is_decoded_here_is_answered(rig, engine):
    rig.start("probability")
    bytes_per_pixel = {"nv12": 1.5, "nv21": 1.5, "uyvy": 2, "yuyv": 2, "yuv422": 2, "yuv422_yuy2": 2}
    for encoding in DECODED_ENCODINGS:
        size = (
            bytes_per_pixel.get(encoding)
            or {"8": 1, "C": 1, "3": 3, "a": 4}[
                "a" if "a8" in encoding else "3" if encoding in ("rgb8", "bgr8", "8UC3") else "8"
            ]
        )
        step = 80 if encoding.startswith("nv") else int(80 * size)
        msg = Image(header=Header(frame_id=encoding), height=48, width=80, encoding=encoding, step=step)
        msg.data.frombytes(np.random.default_rng(1).integers(0, 256, int(48 * 80 * size), np.uint8).tobytes())
        answer = rig.answer(msg)
        assert answer.header.frame_id == encoding
        np.testing.assert_array_equal(pixels_of(answer), engine.infer(to_rgb(msg)).probability)
    rig.spin_until_counted("published", len(DECODED_ENCODINGS))
    assert rig.node.counts["published"] == len(DECODED_ENCODINGS)


def test_malformed_images_are_counted_by_reason_and_survived(rig, image_msg, capfd):
    rig.start("probability")
    malformed = {
        "size": {"height": 47},
        "step": {"step": 79 * 3},
        "dimensions": {"width": 0},
        "encoding": {"encoding": "hologram"},
        "empty": {"data": []},
    }
    for reason, change in malformed.items():
        for _ in range(3):
            msg = image_msg(5)
            for name, value in change.items():
                setattr(msg, name, value)
            rig.send(msg)
            rig.spin_until_counted(f"rejected/{reason}", rig.node.counts[f"rejected/{reason}"] or 1)
    rig.spin_until(lambda: sum(rig.node.counts[f"rejected/{reason}"] for reason in malformed) >= 5, "rejections")
    answer = rig.answer(image_msg(6))
    assert stamp_of(answer) == (1000, 6)
    assert len(rig.messages("probability")) == 1
    assert {reason for reason in malformed if rig.node.counts[f"rejected/{reason}"]} == set(malformed)
    lines = [line for line in capfd.readouterr().err.splitlines() if "image rejected" in line]
    assert 1 <= len(lines) <= 3, "one line a period, not one a message"
    assert "of this kind)" in lines[0]


def test_newest_of_a_burst_is_published_with_increasing_stamps(rig, image_msg):
    rig.start("probability")
    slow = SlowEngine(rig.node)
    rig.send(image_msg(1))
    rig.spin_until(lambda: slow.calls == 1, "inference of the first image")
    for seed in range(2, 12):
        rig.send(image_msg(seed))
    slow.may_go_on.set()
    rig.spin_until(lambda: len(rig.messages("probability")) == 2, "two answers")
    for seed in range(12, 15):
        rig.answer(image_msg(seed))
    stamps = [stamp_of(msg)[1] for msg in rig.messages("probability")]
    assert stamps == [1, 11, 12, 13, 14]
    assert rig.node.counts["dropped"] == 9
    assert rig.node.counts["received"] == 14
    rig.spin_until_counted("published", 5)
    assert rig.node.counts["published"] == 5


def test_nothing_is_computed_while_nobody_listens(rig, image_msg):
    rig.start()
    slow = SlowEngine(rig.node)
    slow.may_go_on.set()
    for seed in range(3):
        rig.send(image_msg(seed))
    rig.settle()
    assert slow.calls == 0
    rig.listen("mask")
    rig.answer(image_msg(10), "mask")
    assert slow.calls == 1
    rig.client.destroy_subscription(rig.heard["mask"].subscription)
    rig.spin_until(lambda: rig.cameras[""].publishers["mask"].get_subscription_count() == 0, "the listener to be gone")
    rig.send(image_msg(11))
    rig.settle()
    rig.listen("probability")
    rig.answer(image_msg(12))
    assert slow.calls == 2
    rig.spin_until_counted("published", 2)
    assert rig.node.counts["published"] == 2


def test_only_what_somebody_listens_to_is_rendered(rig, image_msg, monkeypatch):
    rendered = []
    render = registry.Output.message
    monkeypatch.setattr(
        registry.Output, "message", lambda self, rendering: rendered.append(self.name) or render(self, rendering)
    )
    rig.start("probability")
    rig.answer(image_msg(1))
    assert rendered == ["probability"]
    rig.listen("overlay")
    rig.answer(image_msg(2), "overlay")
    assert rendered == ["probability", "probability", "overlay"]


def test_camera_info_comes_with_the_images_header(rig, image_msg):
    rig.start("probability", "camera_info")
    rig.answer(image_msg(1))
    rig.send_camera_info(camera_info("camera_optical"))
    for seed in (2, 3):
        answer = rig.answer(image_msg(seed), "camera_info")
        assert answer.header == image_msg(seed).header
        assert list(answer.k) == list(range(9))
    assert len(rig.messages("camera_info")) == 2, "none for the image that came before it"
    assert rig.cameras[""].info.header.stamp.sec == 1, "what was received stays as it was"


def test_camera_info_of_another_frame_is_not_passed_on(rig, image_msg, capfd):
    rig.start("probability", "camera_info")
    rig.send_camera_info(camera_info("lidar"))
    for seed in (1, 2, 3):
        rig.answer(image_msg(seed))
    rig.send_camera_info(camera_info("camera_optical"))
    assert stamp_of(rig.answer(image_msg(4), "camera_info")) == (1000, 4)
    assert len(rig.messages("camera_info")) == 1
    assert capfd.readouterr().err.count("frame 'camera_optical' to go with it, got 'lidar'") == 1


def test_camera_info_alone_needs_no_inference(rig, image_msg):
    rig.start("camera_info")
    slow = SlowEngine(rig.node)
    rig.send_camera_info(camera_info("camera_optical"))
    assert stamp_of(rig.answer(image_msg(7), "camera_info")) == (1000, 7)
    assert slow.calls == 0


def test_an_image_that_nothing_was_published_for_is_skipped(rig, image_msg):
    rig.start("camera_info")
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("skipped")
    assert (
        "all that is subscribed to needs a camera_info or the ground, and is withheld"
        in rig.diagnostics()["camera"].message
    )
    rig.send_camera_info(camera_info("camera_optical"))
    last = rig.stamped(image_msg(2))
    assert rig.answer(last, "camera_info").header == last.header
    assert dict(rig.node.counts) == {"received": 2, "skipped": 1, "published": 1}


def fail(*_, **__):
    raise RuntimeError("no room")


def test_a_program_has_all_outputs_of_an_image_or_none(stand_in, image_msg, monkeypatch):
    rig = stand_in()
    rig.start(*IMAGE_OUTPUTS, "confidence")
    with monkeypatch.context() as patch:
        patch.setattr(images, "to_image_msg", fail)
        rig.send(image_msg(1))
        rig.spin_until_counted("failed/output")
    rig.answer(image_msg(2))
    for name in (*IMAGE_OUTPUTS, "confidence"):
        rig.spin_until(lambda name=name: rig.messages(name), name)
        assert [stamp_of(msg) for msg in rig.messages(name)] == [(1000, 2)], name


def test_failed_visualisation_delays_no_output(stand_in, image_msg, monkeypatch, capfd):
    rig = stand_in()
    rig.start(*IMAGE_OUTPUTS, "confidence")
    monkeypatch.setattr(rendering, "outline", fail)
    rig.answer(image_msg(1))
    for name in {*IMAGE_OUTPUTS, "confidence"} - {"overlay"}:
        rig.spin_until(lambda name=name: rig.messages(name), name)
    assert rig.node.session.drain(30)
    assert "overlay withheld" in capfd.readouterr().err
    assert rig.node.counts == {"received": 1, "published": 1, "withheld/overlay": 1}
    monkeypatch.undo()
    rig.answer(image_msg(2), "overlay")
    assert [stamp_of(msg) for msg in rig.messages("overlay")] == [(1000, 2)]


def test_of_pictures_that_are_all_that_was_wanted_one_may_fail(stand_in, image_msg, monkeypatch):
    rig = stand_in()
    rig.start("heatmap", "overlay")
    monkeypatch.setattr(rendering, "outline", fail)
    rig.answer(image_msg(1), "heatmap")
    assert rig.node.counts == {"received": 1, "published": 1, "withheld/overlay": 1}


def test_pictures_hold_up_neither_programs_nor_the_next_image(stand_in, image_msg, may_draw):
    rig = stand_in()
    rig.start("probability", "overlay")
    for seed in (1, 2):
        rig.answer(image_msg(seed))
    assert rig.messages("overlay") == []
    may_draw.set()
    rig.spin_until(lambda: len(rig.messages("overlay")) == 2, "the overlays")
    assert [stamp_of(msg) for msg in rig.messages("overlay")] == [(1000, 1), (1000, 2)]


@pytest.mark.parametrize("end", ["deactivate", "shutdown"])
def test_a_node_that_is_stopped_finishes_its_pictures_first(stand_in, image_msg, may_draw, monkeypatch, capfd, end):
    monkeypatch.setattr(diagnostics, "PERIOD_S", 0.05)
    rig = stand_in()
    rig.start("probability", "overlay")
    overlays = rig.cameras[""].publishers["overlay"]
    published, publish = [], overlays.publish
    monkeypatch.setattr(overlays, "publish", lambda msg: published.append(msg) or publish(msg))
    rig.answer(image_msg(1))
    errors = []
    monkeypatch.setattr(rig.node.diagnostics, "_publish", lambda statuses: errors.append(observe(rig.node).error))
    threading.Timer(0.3, may_draw.set).start()
    assert getattr(rig.node, f"trigger_{end}")() == TransitionCallbackReturn.SUCCESS
    assert [stamp_of(msg) for msg in published] == [(1000, 1)]
    assert len(errors) > 1
    assert not any(errors), "a thread that ends as it is told to is no fault"
    assert "withheld" not in capfd.readouterr().err


def test_a_picture_that_is_all_that_was_wanted_fails_the_image(stand_in, image_msg, monkeypatch):
    rig = stand_in()
    rig.start("overlay")
    monkeypatch.setattr(rendering, "outline", fail)
    rig.send(image_msg(1))
    rig.spin_until_counted("failed/output")
    assert rig.messages("overlay") == []
    monkeypatch.undo()
    rig.answer(image_msg(2), "overlay")
    assert rig.node.counts == {"received": 2, "failed/output": 1, "published": 1}


def test_the_region_drivable_limits_the_mask_and_not_the_probability(stand_in):
    rig = stand_in(obstacles__region="drivable", obstacles__min_area_px=1, obstacles__drivable_reach=0.0)
    rig.start("probability", "mask", "semantic")
    pixels = np.zeros((48, 80, 3), np.uint8)  # red is the probability, green from 128 on the class car, else road
    pixels[:24, :, 1] = 255
    pixels[4:10, 8:20, 0] = 204  # in the sky
    pixels[16:32, 40:50, 0] = 255  # standing on the road
    rig.answer(to_image_msg(pixels, "rgb8", Header()), "mask")
    rig.spin_until(lambda: all(rig.messages(name) for name in ("probability", "mask", "semantic")), "the images")
    np.testing.assert_array_equal(pixels_of(rig.messages("semantic")[0]), pixels[..., 1] // 128)
    np.testing.assert_array_equal(pixels_of(rig.messages("probability")[0]), pixels[..., 0].astype(np.float32) / 255)
    standing = np.where(pixels[..., 0] == 255, 255, 0)
    np.testing.assert_array_equal(pixels_of(rig.messages("mask")[0]), standing)
    assert rig.set(obstacles__region="everywhere") == ""
    rig.answer(to_image_msg(pixels, "rgb8", Header(stamp=Time(sec=1))), "mask")
    np.testing.assert_array_equal(pixels_of(rig.messages("mask")[1]), np.where(pixels[..., 0], 255, 0))


def test_results_that_are_not_finite_are_never_published(rig, image_msg, capfd):
    rig.start("probability", "mask")
    bias = rig.engine._scorer._network.class_head.bias.data
    sound = bias.clone()
    bias.fill_(float("nan"))
    for seed in (1, 2):
        rig.send(image_msg(seed))
        rig.spin_until_counted("failed/inference", seed)
    bias.copy_(sound)
    assert stamp_of(rig.answer(image_msg(3))) == (1000, 3)
    rig.spin_until(lambda: rig.messages("mask"), "the mask")
    assert len(rig.messages("probability")) == len(rig.messages("mask")) == 1
    err = capfd.readouterr().err
    assert err.count("result must be finite") == 1
    assert "Traceback" not in err


def test_an_unforeseen_error_is_logged_whole_and_the_thread_lives_on(rig, image_msg, monkeypatch, capfd):
    rig.start("probability")

    def broken(*_, **__):
        raise RuntimeError("no kernel image")

    with monkeypatch.context() as patch:
        patch.setattr(rig.engine, "infer_batch", broken)
        rig.send(image_msg(1))
        rig.spin_until_counted("failed/inference")
    with monkeypatch.context() as patch:
        patch.setattr(rig.cameras[""].publishers["probability"], "get_subscription_count", broken)
        rig.send(image_msg(2))
        rig.spin_until_counted("failed/input")
    assert stamp_of(rig.answer(image_msg(3))) == (1000, 3)
    err = capfd.readouterr().err
    assert err.count("no kernel image") >= 1
    assert "in broken" in err, "the traceback"


def test_topics_speak_the_agreed_qos(rig):
    rig.start()
    for name, topic, count in (("input", "image", 1), ("input", "camera_info", 1)):
        found = rig.client.get_subscriptions_info_by_topic(f"/eomt_ext/{name}/{topic}")
        assert [info.qos_profile.reliability.name for info in found] == ["BEST_EFFORT"] * count
    for name in (*IMAGE_OUTPUTS, "camera_info"):
        found = rig.client.get_publishers_info_by_topic(f"/eomt_ext/output/{name}")
        assert [info.qos_profile.reliability.name for info in found] == ["RELIABLE"]
    own = [*rig.cameras[""].publishers.values(), *rig.cameras[""].subscriptions]
    assert {(entity.qos_profile.history.name, entity.qos_profile.depth) for entity in own} == {("KEEP_LAST", 1)}


def test_images_that_need_too_many_windows_are_refused(make_rig, image_msg):
    rig = make_rig(max_windows=2)
    rig.start("probability")
    long = np.zeros((32, 640, 3), np.uint8)
    rig.send(to_image_msg(long, "rgb8", Header()))
    rig.spin_until_counted("rejected/dimensions")
    assert rig.answer(image_msg(1)).height == 48


def test_a_large_image_arrives_whole(rig):
    rig.start("overlay")
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8), (960, 540))
    answer = rig.answer(to_image_msg(pixels, "rgb8", Header(frame_id="large")), "overlay")
    assert (answer.height, answer.width, answer.header.frame_id) == (540, 960, "large")
    assert rig.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
