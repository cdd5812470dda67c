"""Faults that the node survives, with what its operator sees."""

import gc
import threading
import weakref

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from eomt_ext_core import InferenceError
from eomt_ext_ros.inference import batch_backoff
from eomt_ext_ros.messages import images
from eomt_ext_ros.messages.images import to_image_msg
from eomt_ext_ros.outputs import rendering
from eomt_ext_ros.pipeline import publishing

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
CUBLAS_OUT_OF_MEMORY = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def values(status):
    return {item.key: item.value for item in status.values}


def test_out_of_memory_once_halves_the_batch(stand_in, image_msg):
    rig = stand_in(batch_windows=2)
    rig.start("probability")
    rig.engine.failures = [OUT_OF_MEMORY]
    assert rig.answer(image_msg(1)).header == image_msg(1).header
    assert rig.engine.freed == 1
    status = rig.diagnostics()["inference"]
    assert status.level == OK
    assert values(status)["batch_windows"] == "2 (reduced to 1: out of memory)"


def test_out_of_memory_is_an_error_that_ends_by_itself(stand_in, image_msg, monkeypatch, capfd):
    monkeypatch.setattr(batch_backoff, "FIRST_BACKOFF_S", 0.2)
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [CUBLAS_OUT_OF_MEMORY, OUT_OF_MEMORY, OUT_OF_MEMORY]
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("failed/memory")
    statuses = rig.diagnostics()
    assert statuses["inference"].level == statuses["camera"].level == ERROR
    assert "CUDA out of memory" in statuses["inference"].message
    assert rig.engine.freed == 1
    assert values(statuses["camera"])["failed/memory"] == "1"
    rig.send(rig.stamped(image_msg(2)))
    rig.spin_until_counted("failed/memory", 2)
    last = rig.stamped(image_msg(3))
    assert rig.answer(last).header == last.header
    assert len(rig.messages("probability")) == 1
    assert {status.level for status in rig.diagnostics().values()} == {OK}
    assert "out of memory: CUDA out of memory" in capfd.readouterr().err


def test_camera_with_too_large_images_backs_off_alone(stand_in, image_msg, monkeypatch):
    monkeypatch.setattr(batch_backoff, "FIRST_BACKOFF_S", 60.0)
    rig = stand_in(cameras=["front", "rear"])
    rig.start("probability")
    rig.engine.failures = [OUT_OF_MEMORY] * 2
    rig.send(rig.stamped(image_msg(1)), "rear")
    rig.spin_until_counted("failed/memory")
    for seed in range(3):
        rig.send(rig.stamped(image_msg(seed)), "rear")
        rig.answer(rig.stamped(image_msg(seed)), camera="front")
    assert rig.messages("rear/probability") == []
    assert rig.node.statistics["rear"].counts["failed/memory"] == 1
    statuses = rig.diagnostics()
    assert {name: status.level for name, status in statuses.items()} == {
        "inference": ERROR,
        "camera front": OK,
        "camera rear": ERROR,
    }
    assert "inference fails for rear: " in statuses["inference"].message
    assert values(statuses["inference"])["batch_windows"].endswith("(reduced to 1 for rear: out of memory)")
    assert [rig.change_state(label) for label in ("deactivate", "activate")] == [True] * 2
    assert {status.level for status in rig.diagnostics().values()} == {OK}


@pytest.mark.parametrize("end", ["reload", "activate"])
def test_back_off_ends_with_its_cause(stand_in, image_msg, monkeypatch, end):
    monkeypatch.setattr(batch_backoff, "FIRST_BACKOFF_S", 3600.0)
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [OUT_OF_MEMORY] * 2
    rig.engine.may_go_on.clear()
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until(lambda: rig.engine.batches, "the image to be worked on")
    threading.Timer(0.3, rig.engine.may_go_on.set).start()
    if end == "reload":
        assert rig.call(Trigger, "reload", Trigger.Request()).success
    else:
        assert [rig.change_state(label) for label in ("deactivate", "activate")] == [True] * 2
    assert rig.node.counts["failed/memory"] == 1
    rig.answer(rig.stamped(image_msg(2)))


def test_common_batch_is_published_before_failing_cameras(stand_in, image_msg):
    rig = stand_in(cameras=["front", "rear"])
    rig.start("probability")
    rig.engine.failures = [KeyError("layer 7")]
    rig.send(rig.stamped(image_msg(1)), "rear")
    rig.spin_until_counted("failed/inference")
    published, infer_batch = [], rig.engine.infer_batch

    def noted(images_rgb, **kwargs):
        published.append(rig.node.statistics["front"].counts["published"])
        return infer_batch(images_rgb, **kwargs)

    rig.engine.infer_batch = noted
    rig.engine.may_go_on.clear()
    rig.send(rig.stamped(image_msg(2)), "front")
    rig.spin_until(lambda: published, "the first image to be worked on")
    for camera in ("rear", "front"):
        rig.send(rig.stamped(image_msg(3)), camera)
    rig.engine.may_go_on.set()
    rig.spin_until_counted("published", 3)
    assert published == [0, 1, 2], "front, front again, and then rear, alone"


def test_silent_camera_ends_inference_error(stand_in, image_msg):
    rig = stand_in(cameras=["front", "rear"], diagnostics__silent_after_s=0.5)
    rig.start("probability")
    rig.engine.failures = [InferenceError("the network's result must be finite")] * 2
    for camera in ("front", "rear"):
        rig.send(rig.stamped(image_msg(1)), camera)
        rig.spin_until_counted("failed/inference", 1 + (camera == "rear"))
    status = rig.diagnostics()["inference"]
    assert status.message == "inference fails for front, rear: the network's result must be finite"
    statuses = rig.diagnostics()
    while "rear" in statuses["inference"].message:  # which is silent now
        rig.answer(rig.stamped(image_msg(2)), camera="front")
        statuses = rig.diagnostics()
    levels = {name: status.level for name, status in statuses.items()}
    assert levels == {"inference": OK, "camera front": OK, "camera rear": ERROR}
    assert "must be finite" in statuses["camera rear"].message
    rig.answer(rig.stamped(image_msg(3)), camera="rear")
    assert {status.level for status in rig.diagnostics().values()} == {OK}


def test_camera_without_subscribers_ends_inference_error(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [KeyError("layer 7")]
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("failed/inference")
    assert rig.diagnostics()["inference"].message == "inference fails: KeyError: 'layer 7'"
    assert rig.set(outputs=["mask"]) == ""
    rig.send(rig.stamped(image_msg(2)))
    rig.spin_until_counted("skipped")
    statuses = rig.diagnostics()
    assert (statuses["inference"].level, statuses["camera"].level) == (OK, ERROR)


def test_camera_info_subscriber_alone_ends_inference_error(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability", "camera_info")
    rig.send_camera_info(CameraInfo(header=image_msg(1).header, height=48, width=80))
    rig.engine.failures = [KeyError("layer 7")]
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("failed/inference")
    assert rig.diagnostics()["inference"].level == ERROR
    assert rig.set(outputs=["camera_info"]) == ""
    rig.answer(rig.stamped(image_msg(2)), "camera_info")
    assert {status.level for status in rig.diagnostics().values()} == {OK}


def test_out_of_memory_in_decoding_is_a_failure(stand_in, image_msg, monkeypatch):
    def convert(pixels, code):
        return cv2.copyMakeBorder(pixels, 2_000_000_000, 0, 2_000_000_000, 0, cv2.BORDER_CONSTANT)

    rig = stand_in()
    rig.start("probability")
    msg = image_msg(1)
    msg.encoding = "bgr8"
    with monkeypatch.context() as patch:
        patch.setattr(images.cv2, "cvtColor", convert)
        rig.send(msg)
        rig.spin_until_counted("failed/memory")
    assert "Failed to allocate" in rig.diagnostics()["camera"].message
    rig.answer(image_msg(2))


@pytest.mark.parametrize("error", [InferenceError("the network's result must be finite"), KeyError("layer 7")])
def test_failing_inference_is_an_error_until_the_next_output(stand_in, image_msg, error):
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [error]
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("failed/inference")
    statuses = rig.diagnostics()
    assert statuses["inference"].level == statuses["camera"].level == ERROR
    assert str(error) in statuses["inference"].message
    assert str(error) in statuses["camera"].message
    assert rig.node.session.failures[""].__traceback__ is None, "frames hold images"
    rig.answer(rig.stamped(image_msg(2)))
    assert {status.level for status in rig.diagnostics().values()} == {OK}
    assert len(rig.messages("probability")) == 1


def test_scores_that_cannot_be_true_fail_their_image_and_no_other(stand_in, image_msg):
    black = to_image_msg(np.zeros((48, 80, 3), np.uint8), "rgb8", Header())
    rig = stand_in(cameras=["front", "rear"])
    rig.start("probability", "mask", "confidence")
    infer_batch = rig.engine.infer_batch

    def infer(images_rgb, **kwargs):
        if not all(image.any() for image in images_rgb):
            raise InferenceError("every pixel has the same score -3.2: the model or its calibration is damaged")
        return infer_batch(images_rgb, **kwargs)

    rig.engine.infer_batch = infer
    for seed in range(3):
        rig.engine.may_go_on.clear()
        rig.send(rig.stamped(image_msg(seed)), "front")  # so that the next two are a batch
        rig.spin_until(lambda: len(rig.engine.batches) == 1, "the image to be worked on")
        rig.send(rig.stamped(image_msg(seed)), "front")
        rig.send(rig.stamped(black), "rear")
        rig.engine.may_go_on.set()
        rig.spin_until_counted("failed/inference", seed + 1)
        rig.spin_until_counted("published", 2 * seed + 2)
        rig.engine.batches.clear()
        statuses = rig.diagnostics()
        levels = {name: status.level for name, status in statuses.items()}
        assert levels == {"inference": ERROR, "camera front": OK, "camera rear": ERROR}, (
            f"every time, also image {seed}"
        )
        assert "inference fails for rear: every pixel has the same score" in statuses["inference"].message
        assert "every pixel has the same score" in statuses["camera rear"].message
    assert [rig.messages(f"rear/{name}") for name in ("probability", "mask", "confidence")] == [[], [], []]
    assert values(statuses["camera rear"])["failed/inference"] == "3"


@pytest.mark.parametrize("stage", ["decode", "infer", "obstacles", "publish"])
def test_failing_images_are_an_error_until_one_succeeds(stand_in, image_msg, monkeypatch, stage):
    def fail(*_, **__):
        raise KeyError("layer 7")

    rig = stand_in()
    rig.start("mask")
    rig.answer(rig.stamped(image_msg(1)), "mask")
    owner, name, kind = {
        "decode": (rig.cameras[""], "decode", "input"),
        "infer": (rig.engine, "infer_batch", "inference"),
        "obstacles": (publishing, "find_obstacles", "output"),
        "publish": (rig.cameras[""].publishers["mask"], "publish", "output"),
    }[stage]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        for seed in range(4):
            rig.send(rig.stamped(image_msg(seed)))
            rig.spin_until_counted(f"failed/{kind}", seed + 1)
            status = rig.diagnostics()["camera"]
            assert (status.level, status.message) == (ERROR, "image not processed: KeyError: 'layer 7'")
    rig.answer(rig.stamped(image_msg(9)), "mask")
    assert {status.level for status in rig.diagnostics().values()} == {OK}


def test_late_visualisation_does_not_hide_a_newer_failure(stand_in, image_msg, may_draw):
    rig = stand_in()
    rig.start("overlay")
    rig.engine.failures = [None, KeyError("layer 7")]
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until(lambda: rig.engine.batches, "the first image to be worked on")
    rig.send(rig.stamped(image_msg(2)))
    rig.spin_until_counted("failed/inference")
    may_draw.set()
    rig.spin_until(lambda: rig.messages("overlay"), "the overlay of the first image")
    rig.spin_until_counted("published")
    assert {status.level for status in rig.diagnostics().values()} == {ERROR}
    rig.answer(rig.stamped(image_msg(3)), "overlay")
    assert {status.level for status in rig.diagnostics().values()} == {OK}


def test_a_refused_score_leaves_nothing_behind_when_memory_is_short(stand_in, image_msg):
    rig = stand_in(score="energy")
    rig.start("probability")
    rig.engine.refused_scores = {"head"}
    assert "score 'head' needs what this model lacks" in rig.set(score="head")
    rig.engine.failures = [OUT_OF_MEMORY]
    rig.answer(image_msg(1))
    assert rig.engine.config.score == rig.engine_config.score == "energy"
    rig.answer(image_msg(2))


def test_failure_to_free_memory_costs_one_image(stand_in, image_msg, monkeypatch):
    rig = stand_in()
    rig.start("probability")
    lost = RuntimeError("CUDA error: unspecified launch failure")
    rig.engine.failures = [OUT_OF_MEMORY, lost]

    def broken():
        raise lost

    with monkeypatch.context() as patch:
        patch.setattr(rig.engine, "free_memory", broken)
        rig.send(rig.stamped(image_msg(1)))
        rig.spin_until_counted("failed/inference")
    status = rig.diagnostics()["camera"]
    assert (status.level, "unspecified launch failure" in status.message) == (ERROR, True)
    rig.answer(rig.stamped(image_msg(2)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dead_inference_thread_is_an_error_until_configured(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [SystemExit()]
    rig.send(image_msg(1))
    rig.spin_until(lambda: not rig.node.session.is_inferring, "the thread to end")
    status = rig.diagnostics()["inference"]
    assert status.level == ERROR
    assert "inference thread died" in status.message
    reply = rig.call(Trigger, "reload", Trigger.Request())
    assert (reply.success, reply.message) == (False, status.message)
    assert [rig.change_state(label) for label in ("deactivate", "cleanup", "configure", "activate")] == [True] * 4
    assert rig.diagnostics()["inference"].level == OK
    rig.answer(image_msg(2))


def test_drawing_error_affects_only_its_visualisation(stand_in, image_msg, monkeypatch, capfd):
    def end(*_):
        raise SystemExit

    rig = stand_in()
    rig.start("probability", "overlay")
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "blend", end)
        rig.answer(image_msg(1))
        rig.spin_until_counted("withheld/overlay")
    assert "overlay withheld: " in capfd.readouterr().err
    rig.answer(image_msg(2))
    rig.spin_until(lambda: rig.messages("overlay"), "the overlay")
    assert {status.level for status in rig.diagnostics().values()} <= {OK, WARN}


def test_pictures_that_fail_keep_no_image(stand_in, image_msg, monkeypatch):
    rig = stand_in()
    rig.start("overlay", "heatmap")
    seen = []

    def fail(probability, *_):
        seen.append(weakref.ref(probability))
        raise RuntimeError("no room")

    monkeypatch.setattr(rendering, "heatmap", fail)
    gc.collect()
    gc.disable()
    try:
        rig.send(image_msg(1))
        rig.spin_until_counted("failed/output")
        assert rig.node.session.drain(30)
        assert [each() for each in seen] == [None, None]
    finally:
        gc.enable()


def test_new_threshold_applies_to_the_next_image(stand_in):
    rig = stand_in(threshold=0.8, obstacles__threshold_low=0.6, obstacles__min_area_px=1)
    rig.start("mask")
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[10:20, 10:20, 0] = 0.7 * 255
    pixels[12, 12, 0] = 0.9 * 255
    pixels[30:40, 10:20, 0] = 0.5 * 255
    rig.engine.may_go_on.clear()
    rig.send(rig.stamped(to_image_msg(pixels, "rgb8", Header())))
    rig.spin_until(lambda: rig.engine.batches, "inference")
    assert rig.set(obstacles__threshold_low=0.3, threshold=0.4) == ""
    rig.engine.may_go_on.set()
    rig.spin_until(lambda: rig.messages("mask"), "the mask")
    rig.answer(rig.stamped(to_image_msg(pixels, "rgb8", Header())), "mask")
    before, after = (np.frombuffer(msg.data, np.uint8).reshape(48, 80) == 255 for msg in rig.messages("mask"))
    np.testing.assert_array_equal(before, pixels[..., 0] > 0.6 * 255)
    np.testing.assert_array_equal(after, pixels[..., 0] > 0)


def test_a_refused_change_never_reaches_the_engine(stand_in):
    rig = stand_in(threshold=0.8, obstacles__threshold_low=0.6)
    rig.node.start()
    before = rig.engine_config
    assert "threshold_low must be at most the threshold 0.5, got 0.6" in rig.set(threshold=0.5)
    assert rig.engine_config is before


def test_a_model_without_a_semantic_map_gives_every_other_output(stand_in, image_msg, capfd):
    rig = stand_in()
    rig.start("probability", "semantic")
    rig.engine.has_semantic = False
    for seed in (1, 2, 3):
        rig.answer(rig.stamped(image_msg(seed)))
    assert rig.messages("semantic") == []
    assert "region drivable needs the class of each pixel" in rig.set(obstacles__region="drivable")
    rig.engine.failures = [KeyError("layer 7")]
    rig.send(rig.stamped(image_msg(4)))
    rig.spin_until_counted("failed/inference")
    rig.answer(rig.stamped(image_msg(5)))
    rig.client.destroy_subscription(rig.heard["probability"].subscription)
    publisher = rig.cameras[""].publishers["probability"]
    rig.spin_until(lambda: not publisher.get_subscription_count(), "the listener to be gone")
    rig.send(rig.stamped(image_msg(6)))
    rig.spin_until_counted("skipped")
    assert rig.node.counts["withheld/semantic"] == 4, "of the four images that were answered"
    assert "the model does not give the class of each pixel" in rig.diagnostics()["camera"].message
    assert capfd.readouterr().err.count("the model does not give the class of each pixel") == 1


def test_drivable_region_needs_a_semantic_map(stand_in, monkeypatch):
    monkeypatch.setattr(stand_in.keywords["engine_factory"], "has_semantic", False)
    rig = stand_in(obstacles__region="drivable")
    assert not rig.change_state("configure")
    assert "region drivable needs the class of each pixel" in rig.diagnostics()["inference"].message


def test_failed_reload_frees_the_new_model_and_reports_its_place(stand_in, image_msg, monkeypatch):
    class Model:
        pass

    held, freed = [], []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(held[0]()))

    def half_loaded(config):
        model = Model()
        model.cycle = model
        held.append(weakref.ref(model))
        raise KeyError("layer 7")

    rig = stand_in()
    rig.start("probability")
    rig.node._engine_factory = half_loaded
    gc.collect()
    gc.disable()
    try:
        answer = rig.call(Trigger, "reload", Trigger.Request())
        assert [reference() for reference in held] == [None]
    finally:
        gc.enable()
    assert not answer.success
    assert "layer 7" in answer.message
    assert "in half_loaded" in answer.message
    assert (freed, rig.engine.freed) == ([None], 0), "what is loaded keeps its CUDA graphs"
    rig.answer(image_msg(1))


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "empty"])
def test_bad_checkpoint_leaves_node_unconfigured_with_reason(make_rig, tiny_model, tmp_path, damage, capfd):
    from safetensors.torch import save_file

    path, data = tmp_path / "model.safetensors", tiny_model.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "foreign":
        save_file({"conv1.weight": torch.zeros(3, 3)}, path)
    elif damage == "empty":
        path.write_bytes(b"")
    rig = make_rig(checkpoint=str(path))
    assert not rig.change_state("configure")
    assert rig.state == "unconfigured"
    status = rig.diagnostics()["inference"]
    assert status.level == ERROR
    assert status.message.startswith(f"not configured: {path}")
    err = capfd.readouterr().err
    assert f"configure failed: {path}" in err
    assert "Traceback" not in err
    assert rig.set(checkpoint=str(tiny_model)) == ""
    assert rig.change_state("configure")
    assert rig.change_state("activate")
    assert rig.diagnostics()["inference"].level == OK


def test_without_a_gpu_require_cuda_leaves_the_node_unconfigured(make_rig, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rig = make_rig(require_cuda=True, device="auto")
    assert not rig.change_state("configure")
    assert "require_cuda needs a GPU" in rig.diagnostics()["inference"].message
