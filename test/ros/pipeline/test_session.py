"""Models and settings that change while the node runs."""

import functools
import threading
import time

import pytest
import torch

pytest.importorskip("rclpy")

from eomt_ext_ros.inference.inference import LONGEST_FREE_PERIOD_S, Inference

TIMEOUT_S = 30.0


def test_settings_that_change_while_a_model_is_taken_up_reach_it(stand_in):
    rig = stand_in(threshold=0.5)
    rig.start()
    session, old = rig.node.session, rig.engine
    asked, may_go_on = threading.Event(), threading.Event()

    class HesitantEngine(type(old)):
        @property
        def class_names(self):
            asked.set()
            assert may_go_on.wait(TIMEOUT_S)
            return ("road", "car")

    new = HesitantEngine(rig.node.config)
    taking_up = threading.Thread(target=session.use, args=[Inference(new)])
    changing = threading.Thread(target=rig.set, kwargs={"threshold": 0.9})
    taking_up.start()
    assert asked.wait(TIMEOUT_S)
    changing.start()
    changing.join(0.2)  # it waits for the model to be taken up
    may_go_on.set()
    for thread in (taking_up, changing):
        thread.join(TIMEOUT_S)
    assert session.context.engine is new
    assert session.context.threshold == 0.9


def cold(engine_class):
    """Make an engine that has to capture what images need, and fails if that is left to one of them."""

    class ColdEngine(engine_class):
        images_hw = ((1, 64),)

        def __init__(self, config):
            super().__init__(config)
            self.warm, self.threads = {(config.engine.score, False)}, []

        def is_warm(self, config, *, semantic):
            return (config.score, semantic) in self.warm

        def warm_up(self, *, semantic, config):
            self.warm.add((config.score, semantic))
            self.threads.append(threading.current_thread().name)

        def free_memory(self):
            super().free_memory()
            self.warm.clear()

        def infer_batch(self, images_rgb, *, semantic, config):
            assert self.is_warm(config, semantic=semantic), "captured inside a frame"
            return super().infer_batch(images_rgb, semantic=semantic, config=config)

    return ColdEngine


@pytest.fixture
def cold_rig(stand_in, make_rig):
    rig = make_rig(engine_factory=cold(stand_in.keywords["engine_factory"]))
    rig.start("probability")
    return rig


def test_a_live_change_is_captured_before_it_takes_effect(cold_rig, image_msg):
    rig = cold_rig
    assert rig.set(score="rba", threshold=0.9) == ""
    rig.answer(image_msg(1))
    assert (rig.engine.config.score, rig.engine.config.threshold) == ("rba", 0.9)
    assert rig.engine.threads == ["inference"]
    assert rig.set(threshold=0.8) == ""
    assert rig.engine_config.threshold == 0.8, "at once: nothing has to be captured"
    assert dict(rig.node.counts) == {"received": 1, "published": 1}


def test_after_memory_was_freed_images_capture_for_changes_for_a_while(cold_rig, image_msg, monkeypatch):
    rig, session = cold_rig, cold_rig.node.session
    rig.listen("semantic")
    rig.answer(image_msg(1))
    rig.answer(image_msg(2), "semantic")
    rig.client.destroy_subscription(rig.heard.pop("semantic").subscription)
    monkeypatch.setattr(rig.engine, "infer_batch", functools.partial(_hot, rig.engine))
    rig.engine.failures, warm_ups = [torch.cuda.OutOfMemoryError("CUDA out of memory")], len(rig.engine.threads)
    rig.answer(image_msg(3))
    assert rig.set(score="rba", threshold=0.9) == ""
    assert (session.context.config.engine.score, session.context.threshold) == ("rba", 0.9), "at once"
    assert (rig.engine.freed, len(rig.engine.threads)) == (1, warm_ups)
    monkeypatch.setattr(session.context.inference, "_clock", lambda: time.monotonic() + LONGEST_FREE_PERIOD_S)
    assert rig.set(score="energy") == ""
    rig.spin_until(lambda: session.context.config.engine.score == "energy", "the change")
    assert rig.engine.warm >= {("energy", True), ("energy", False)}, "captured between two images again"


@pytest.fixture
def logged(cold_rig, monkeypatch):
    """The errors of a session whose engine refuses what it was warmed up for."""
    engine, logged = cold_rig.engine, []
    monkeypatch.setattr(cold_rig.node.session._log, "error", lambda kind, text: logged.append(text))
    warm_up = engine.warm_up

    def refuse_later(*, semantic, config):
        warm_up(semantic=semantic, config=config)
        engine.refused_scores = {config.score}

    monkeypatch.setattr(engine, "warm_up", refuse_later)
    return logged


def test_a_change_that_fails_in_the_inference_thread_is_logged(cold_rig, logged):
    rig = cold_rig
    assert rig.set(score="rba") == ""
    rig.spin_until(lambda: logged, "the log")
    assert logged == ["new parameters are not in force: score 'rba' needs what this model lacks"]
    assert rig.node.session.context.config.engine.score == "head"


def test_semantic_classes_that_cannot_be_prepared_are_logged(cold_rig, image_msg, logged):
    rig = cold_rig
    rig.listen("semantic")
    rig.answer(image_msg(1))
    rig.spin_until(lambda: logged, "the log")
    assert logged[0].startswith("the model is not prepared for semantic classes, and the first images with them take ")
    assert logged[0].endswith("longer: score 'head' needs what this model lacks")


def test_the_last_of_several_changes_stays(cold_rig, image_msg):
    rig = cold_rig
    rig.hold_one_and_let_one_wait(image_msg(1), image_msg(2))
    for score in ("rba", "energy", "head"):
        assert rig.set(score=score) == ""
    rig.engine.may_go_on.set()
    rig.spin_until_counted("published", 2)
    assert rig.engine.config.score == rig.engine_config.score == "head"


def test_a_model_that_is_loaded_is_warm_for_the_settings_of_now(cold_rig, image_msg):
    rig, may_load, loading = cold_rig, threading.Event(), threading.Event()
    load = rig.node.session._load_engine
    rig.node.session._load_engine = lambda config: loading.set() or (may_load.wait(TIMEOUT_S) and load(config))
    reloaded = rig.node.begin_reload()
    rig.spin_until(loading.is_set, "the model to be loaded")
    assert rig.set(score="rba") == ""
    may_load.set()
    rig.spin_until(reloaded.done, "the reload")
    rig.answer(image_msg(1))
    assert rig.engine.config.score == "rba"


def test_the_image_before_semantic_classes_are_prepared_is_answered_without_them(cold_rig, image_msg):
    rig = cold_rig
    rig.answer(image_msg(1))
    rig.listen("semantic")
    assert rig.answer(image_msg(2)).header.stamp.nanosec == 2
    rig.answer(image_msg(3), "semantic")
    assert [msg.header.stamp.nanosec for msg in rig.messages("semantic")] == [3]
    counts = dict(rig.node.counts)
    assert (counts["published"], counts["withheld/semantic"]) == (3, 1)
    assert rig.engine.threads == ["inference"]
    assert rig.engine.prepared == (((1, 64),), True)


def test_semantic_classes_alone_wait_for_the_next_image(cold_rig, image_msg):
    rig = cold_rig
    rig.client.destroy_subscription(rig.heard.pop("probability").subscription)
    rig.listen("semantic")
    rig.send(image_msg(1))
    rig.spin_until_counted("skipped", 1)
    rig.answer(image_msg(2), "semantic")


def test_once_semantic_classes_are_wanted_changes_and_models_are_warm_for_them(cold_rig, image_msg):
    rig = cold_rig
    rig.listen("semantic")
    rig.answer(image_msg(1))
    rig.answer(image_msg(2), "semantic")
    assert rig.set(score="rba") == ""
    rig.answer(image_msg(3), "semantic")
    assert rig.node.counts["withheld/semantic"] == 1
    assert rig.engine.warm == {(score, semantic) for score in ("head", "rba") for semantic in (True, False)}
    rig.spin_until(rig.node.begin_reload().done, "the reload")
    rig.answer(image_msg(4), "semantic")
    assert rig.engine.prepared == (((1, 64),), True)


def test_semantic_classes_for_which_memory_is_short_are_left_to_images(cold_rig, image_msg, monkeypatch):
    rig, frees = cold_rig, []
    monkeypatch.setattr(rig.engine, "warm_up", lambda **_: frees.append("tried"))
    monkeypatch.setattr(rig.engine, "infer_batch", functools.partial(_hot, rig.engine))
    rig.listen("semantic")
    rig.answer(image_msg(1))
    for number in (2, 3):
        rig.answer(image_msg(number), "semantic")
    assert frees == ["tried"]


def _hot(engine, images_rgb, *, semantic, config):
    """Infer and capture meanwhile."""
    engine.warm.add((config.score, semantic))
    return type(engine).infer_batch(engine, images_rgb, semantic=semantic, config=config)


@pytest.mark.parametrize(
    ("outputs", "parameters", "parts"),
    [
        (("probability", "confidence"), {}, {"probability"}),
        (("confidence", "heatmap"), {}, {"confidence"}),
        (("confidence",), {"publish_scale": 0.5}, {"probability"}),
        (("confidence", "mask"), {}, {"probability"}),
        (("semantic",), {}, {"semantic"}),
        (("heatmap/compressed", "semantic"), {}, {"confidence", "semantic"}),
        (("overlay",), {"obstacles__region": "drivable"}, {"probability", "semantic"}),
    ],
)
def test_of_a_frame_only_what_is_shown_is_asked_for(stand_in, image_msg, outputs, parameters, parts):
    rig = stand_in(**parameters)
    rig.start(*outputs)
    asked, submit = [], rig.engine.submit
    rig.engine.submit = lambda images, *, parts, config: (
        asked.append(parts) or submit(images, parts=parts, config=config)
    )
    rig.answer(image_msg(1), outputs[0])
    assert asked == [parts]
