"""``~/set_enabled``, ``~/reload`` and live parameters, as another process uses them."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
from std_srvs.srv import SetBool, Trigger

from eomt_ext_core import load_model, save_model
from eomt_ext_core.visualization import heatmap
from eomt_ext_ros.bags.messages import plane
from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.pipeline import camera as camera_module
from eomt_ext_ros.pipeline.camera import Camera
from eomt_ext_ros.pipeline.transforms import Transforms


def enable(rig, yes):
    answer = rig.call(SetBool, "set_enabled", SetBool.Request(data=yes))
    assert answer.success
    return answer.message


def test_a_disabled_node_answers_nothing_and_says_so(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    rig.answer(image_msg(1))
    assert enable(rig, False) == "images are not processed"
    rig.send(image_msg(2))
    rig.spin_until_counted("skipped")
    status = rig.diagnostics()["inference"]
    assert status.level == b"\x01"
    assert "disabled by ~/set_enabled" in status.message
    assert enable(rig, True) == "images are processed"
    rig.answer(image_msg(3))
    assert rig.engine.batches == [1, 1]
    assert rig.diagnostics()["inference"].level == b"\x00"


def test_reply_names_the_state_that_prevents_processing(stand_in):
    rig = stand_in()
    unconfigured = (
        "images are not processed: the node is unconfigured; configuring enables it, whatever is asked for now"
    )
    assert enable(rig, True) == enable(rig, False) == unconfigured
    assert rig.change_state("configure")
    assert rig.node.enabled
    assert enable(rig, False) == "images are not processed once the node is active; it is inactive"
    assert enable(rig, True) == "images are processed once the node is active; it is inactive"
    assert rig.change_state("activate")
    assert enable(rig, True) == "images are processed"


def test_why_images_need_no_answer_is_told_apart(stand_in, image_msg):
    rig = stand_in()
    rig.start()

    def told_of(seed):
        rig.send(image_msg(seed))
        rig.spin_until_counted("skipped", seed)
        return rig.diagnostics()["camera"].message

    assert told_of(1).endswith("Hz out: nobody subscribes to an output")
    rig.listen("heatmap")
    assert rig.set(outputs=["probability"]) == ""
    assert told_of(2).endswith("Hz out: heatmap subscribed to, but not in the parameter outputs")
    enable(rig, False)
    assert told_of(3) == "node is disabled by ~/set_enabled; images are not processed"
    enable(rig, True)
    assert rig.diagnostics()["camera"].message.endswith("Hz out: the node was disabled")


def test_disabling_drops_waiting_images(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    rig.hold_one_and_let_one_wait(image_msg(1), image_msg(2))
    enable(rig, False)
    rig.engine.may_go_on.set()
    rig.spin_until_counted("published")
    assert dict(rig.node.counts) == {"received": 2, "published": 1, "dropped": 1}


def test_reload_keeps_the_old_model_on_failure(make_rig, tiny_model, tmp_path, image_msg):
    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    rig = make_rig(checkpoint=str(path))
    assert not rig.call(Trigger, "reload", Trigger.Request()).success
    rig.start("probability")
    first = plane(rig.answer(image_msg(1)))

    model = load_model(path)
    for value in model.anomaly_head.parameters():
        value.data.mul_(-0.5)
    save_model(model, path)
    answer = rig.call(Trigger, "reload", Trigger.Request())
    assert answer.success, answer.message
    assert answer.message == f"loaded {path}"
    second = plane(rig.answer(image_msg(2)))

    path.write_bytes(path.read_bytes()[:1000])
    answer = rig.call(Trigger, "reload", Trigger.Request())
    assert not answer.success
    assert answer.message.startswith(f"the model in use stays: {path}")
    image = image_msg(2)
    image.header.stamp.nanosec = 3
    np.testing.assert_array_equal(plane(rig.answer(image)), second)
    image = image_msg(1)
    image.header.stamp.nanosec = 4
    assert not np.array_equal(plane(rig.answer(image)), first)


def test_the_executor_goes_on_while_a_checkpoint_is_loaded(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    rig.engine.may_go_on.clear()
    rig.send(image_msg(1))
    rig.spin_until(lambda: rig.engine.batches, "the first image to be worked on")
    client = rig.client.create_client(Trigger, "/eomt_ext/reload")
    rig.spin_until(client.service_is_ready, "the service")
    engine, future = rig.engine, client.call_async(Trigger.Request())
    for seed in range(2, 5):
        rig.send(image_msg(seed))
    assert rig.set(overlay_opacity=0.1) == ""
    assert not future.done()
    engine.may_go_on.set()
    rig.spin_until(future.done, "the answer")
    assert future.result().success
    assert rig.engine is not engine
    rig.spin_until_counted("published", 2)


def test_a_reload_holds_up_no_transition_and_is_not_cut_short(stand_in, capfd):
    rig = stand_in()
    rig.start()
    engine_factory, may_load = rig.node._engine_factory, threading.Event()
    rig.node._engine_factory = lambda config: may_load.wait(30) and engine_factory(config)
    for transition, words, state in (("deactivate", "deactivate", "active"), ("cleanup", "clean up", "inactive")):
        may_load.clear()
        job = rig.node.begin_reload()
        assert not rig.change_state(transition)
        assert rig.state == state
        assert not job.done()
        assert f"cannot {words} while ~/reload loads a checkpoint" in capfd.readouterr().err
        may_load.set()
        assert job.result(30)
        assert rig.change_state(transition)


def test_label_info_is_repeated_only_for_new_threshold_or_model(stand_in, monkeypatch):
    told = []
    monkeypatch.setattr(Camera, "publish_label_info", lambda camera, names, threshold: told.append(threshold))
    rig = stand_in()
    rig.start()
    assert told == [0.5]
    assert rig.set(overlay_opacity=0.1, max_rate_hz=9.0) == ""
    assert told == [0.5]
    assert rig.set(threshold=0.75) == ""
    assert told == [0.5, 0.75]
    assert rig.call(Trigger, "reload", Trigger.Request()).success
    assert told == [0.5, 0.75, 0.75]


def test_model_without_class_names_clears_label_info(stand_in, monkeypatch):
    latched = []
    monkeypatch.setattr(camera_module, "to_label_info", lambda names, threshold, header: list(names))
    node = stand_in().node
    camera = Camera(node, "raw", Transforms(node), CameraStatistics())
    camera.publishers["label_info"] = SimpleNamespace(publish=latched.append)
    for names in ((), ("road", "sky"), (), ("road",)):
        camera.publish_label_info(names, 0.5)
    assert latched == [["road", "sky"], [], ["road"]]


def test_live_parameters_take_effect_on_the_next_image(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability", "heatmap", "mask")
    msg = image_msg(1)
    rig.answer(msg, "heatmap")
    assert rig.set(colour_map="viridis", threshold=0.0, obstacles__min_area_px=1) == ""
    msg.header.stamp.nanosec = 2
    answer = plane(rig.answer(msg, "heatmap"))
    np.testing.assert_array_equal(answer, heatmap(plane(rig.messages("probability")[-1]), "viridis"))
    rig.spin_until(lambda: len(rig.messages("mask")) == 2, "the mask")
    assert plane(rig.messages("mask")[-1]).mean() > 250
    assert rig.set(outputs=["probability"]) == ""
    msg.header.stamp.nanosec = 3
    rig.answer(msg)
    assert len(rig.messages("heatmap")) == 2


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"threshold": 1.5}, "out of range"),
        ({"colour_map": "neon"}, "colour_map must be one of turbo"),
        ({"outputs": ["mask", "sound"]}, "outputs must be some of probability"),
        ({"obstacles__threshold_low": 0.75}, "threshold_low must be at most the threshold 0.5, got 0.75"),
        ({"obstacles__region": "polygon"}, "region polygon needs a polygon"),
        ({"obstacles__region": "drivable", "obstacles__drivable_classes": ["sea"]}, "drivable_classes must be classes"),
        ({"device": "cuda"}, "device can change only while the node is unconfigured"),
        ({"image_transport": "compressed"}, "image_transport can change only while the node is unconfigured"),
    ],
)
def test_what_cannot_be_is_refused_with_the_rule_and_changes_nothing(stand_in, change, rule):
    rig = stand_in()
    rig.node.start()
    before, engine_config = rig.node.settings, rig.engine_config
    if "obstacles__region" in change and len(change) == 2:
        assert rig.set(obstacles__drivable_classes=change.pop("obstacles__drivable_classes")) == ""
        before = rig.node.settings
    assert rule in rig.set(**change)
    assert rig.node.settings == before
    assert rig.engine_config == engine_config
