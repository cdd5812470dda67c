"""The managed node's transitions, through its services where another process would use them."""

import gc
import signal
import threading

import pytest

pytest.importorskip("rclpy")
import rclpy
import torch
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from eomt_ext_core import AnomalyEngine
from eomt_ext_ros.diagnostics import publisher as diagnostics_module
from eomt_ext_ros.diagnostics.snapshot import observe
from eomt_ext_ros.node import AnomalyNode, main, program
from eomt_ext_ros.node import anomaly_node as node_module
from eomt_ext_ros.pipeline.camera import Camera


@pytest.fixture
def signals():
    """Puts the handlers of signals back that the end of a process switches off."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def worker_threads():
    return sorted(each.name for each in threading.enumerate() if each.name.startswith(("inference", "visualisation")))


def test_five_cycles_through_the_services_leave_nothing_behind(rig, image_msg):
    threads = None
    for cycle in range(5):
        assert rig.state == "unconfigured"
        assert rig.change_state("configure")
        assert rig.state == "inactive"
        assert rig.change_state("activate")
        assert rig.state == "active"
        assert worker_threads() == ["inference"]
        if cycle in (0, 4):
            rig.listen("probability")
            rig._find_inputs()
            assert rig.answer(image_msg(cycle)).header == image_msg(cycle).header
            rig.client.destroy_subscription(rig.heard["probability"].subscription)
        camera = rig.cameras[""]
        assert rig.change_state("deactivate")
        assert camera.subscriptions == []
        assert rig.change_state("cleanup")
        assert worker_threads() == []
        assert rig.node.session is None
        assert camera.publishers == rig.cameras == {}
        threads = threads or threading.active_count()
        assert threading.active_count() == threads


def test_an_inactive_node_answers_nothing(rig, image_msg):
    rig.start("probability")
    rig.answer(image_msg(1))
    received = rig.node.counts["received"]
    assert rig.change_state("deactivate")
    for seed in range(2, 5):
        rig.publishers[""][0].publish(image_msg(seed))
        assert rig.state == "inactive"
    assert rig.node.counts["received"] == received
    assert len(rig.messages("probability")) == 1


def test_configuring_without_checkpoint_fails_with_reason(make_rig, tiny_model, capfd):
    rig = make_rig(checkpoint="/nowhere/model.pth")
    assert not rig.change_state("configure")
    assert rig.state == "unconfigured"
    err = capfd.readouterr().err
    assert "configure failed: /nowhere/model.pth: no such file" in err
    assert "Traceback" not in err
    assert rig.node.set_parameters([Parameter("checkpoint", value=str(tiny_model))])[0].successful
    assert rig.change_state("configure")
    assert rig.state == "inactive"


def test_unforeseen_configure_error_is_logged(make_rig, capfd):
    def broken(*_, **__):
        raise RuntimeError("no kernel image")

    assert make_rig(engine_factory=broken).node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert worker_threads() == []
    err = capfd.readouterr().err
    assert "no kernel image" in err
    assert "in broken" in err


def test_wrong_new_camera_fails_configuring_with_reason(make_rig):
    rig = make_rig(front__polygon=[0.5, 0.5])
    assert rig.set(cameras=["front"]) == ""
    assert not rig.change_state("configure")
    assert rig.state == "unconfigured"
    status = rig.diagnostics()["inference"]
    assert status.level == b"\x02"
    assert status.message.startswith(
        "not configured: camera front: polygon must be x, y of at least three corners, got 2 numbers"
    )
    assert rig.set(front__polygon=[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]) == ""
    assert rig.change_state("configure")


@pytest.mark.parametrize("wait", ["load", "stop"])
def test_diagnostics_go_on_while_a_transition_waits(stand_in, image_msg, monkeypatch, wait):
    monkeypatch.setattr(diagnostics_module, "PERIOD_S", 0.05)
    rig = stand_in()
    told, publish = [], rig.node.diagnostics._publish
    monkeypatch.setattr(
        rig.node.diagnostics,
        "_publish",
        lambda statuses: told.append((rig.node.state, observe(rig.node).error)) or publish(statuses),
    )
    may_go_on = threading.Event()
    if wait == "load":
        load = rig.node._engine_factory
        rig.node._engine_factory = {}.__getitem__
        assert rig.node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert observe(rig.node).error.startswith("not configured: KeyError")
        rig.node._engine_factory = lambda config: may_go_on.wait(30) and load(config)
        trigger, state = rig.node.trigger_configure, "configuring"
    else:
        rig.start("probability")
        rig.hold_one_and_let_one_wait(image_msg(1), image_msg(2))
        may_go_on = rig.engine.may_go_on
        trigger, state = rig.node.trigger_deactivate, "deactivating"
    threading.Timer(0.5, may_go_on.set).start()
    told.clear()
    assert trigger() == TransitionCallbackReturn.SUCCESS
    assert len(told) >= 3
    assert set(told) == {(state, "")}


def test_cleanup_frees_gpu_memory(rig, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(layers()))
    gc.collect()
    before = layers()
    rig.start()
    rig.node.trigger_deactivate()
    rig.node.trigger_cleanup()
    assert seen == [before], "the model is gone by then"


@pytest.mark.parametrize("where", ["loading", "agreeing", "advertising"])
def test_failed_configuring_frees_gpu_memory(rig, monkeypatch, where):
    def broken(*_, **__):
        raise RuntimeError("no room")

    seen, load = [], rig.node._engine_factory
    if where == "loading":
        rig.node._engine_factory = lambda config: (load(config), broken())
    elif where == "agreeing":
        monkeypatch.setattr(AnomalyEngine, "threshold_of", broken)
    else:
        monkeypatch.setattr(Camera, "advertise", broken)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(layers()))
    gc.collect()
    before = layers()
    assert rig.node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert seen == [before], "what there was of the model is gone by then"


def test_start_configures_and_activates(rig):
    rig.node.start()
    assert rig.state == "active"


def test_start_that_fails_says_what_to_do(make_rig, capfd):
    rig = make_rig(checkpoint="/nowhere/model.pth")
    rig.node.start()
    assert rig.state == "unconfigured"
    assert "not started: set the parameters right" in capfd.readouterr().err


@pytest.mark.parametrize("steps", [(), ("configure",), ("configure", "activate")])
def test_shutdown_from_each_state(rig, steps):
    for step in steps:
        assert rig.change_state(step)
    assert rig.node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert rig.state == "finalized"
    assert worker_threads() == []
    assert rig.cameras == {}
    assert rig.node.session is None


def test_an_image_that_waits_at_the_shutdown_is_accounted_for(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    rig.hold_one_and_let_one_wait(image_msg(1), image_msg(2))
    timer = threading.Timer(0.3, rig.engine.may_go_on.set)
    timer.start()
    assert rig.node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    timer.join()
    assert dict(rig.node.counts) == {"received": 2, "published": 1, "dropped": 1}


def test_hanging_thread_is_an_error_with_a_way_out(rig, image_msg, monkeypatch, capfd):
    monkeypatch.setattr(node_module, "STOP_TIMEOUT_S", 0.05)
    rig.start("probability")
    begun, may_end = threading.Event(), threading.Event()
    monkeypatch.setattr(rig.engine, "infer_batch", lambda *_, **__: begun.set() or may_end.wait(30))
    rig.send(image_msg(1))
    rig.spin_until(begun.is_set, "the thread to be busy")
    assert rig.diagnostics()["inference"].level == b"\x00"
    assert rig.set(diagnostics__hung_after_s=0.1) == ""
    rig.spin_until(lambda: rig.node.session.processing_for_s > 0.1, "the limit")
    status = rig.diagnostics()["inference"]
    assert status.level == b"\x02"
    assert "s, longer than diagnostics.hung_after_s (0.1 s); if it never ends, restart" in status.message
    assert rig.node.trigger_deactivate() == TransitionCallbackReturn.ERROR
    assert "inference or visualisation did not end" in capfd.readouterr().err
    assert rig.state == "finalized", "never two inference threads"
    status = rig.diagnostics()["inference"]
    assert status.level == b"\x02"
    assert "inference or visualisation did not end within 0 s: restart the process" in status.message
    may_end.set()
    monkeypatch.setattr(node_module, "STOP_TIMEOUT_S", 30.0)


@pytest.mark.parametrize("steps", [(), ("configure",), ("configure", "activate")])
def test_a_node_can_be_destroyed_in_each_state_and_twice(context, tiny_model, steps):
    node = AnomalyNode(context=context, parameter_overrides=[Parameter("checkpoint", value=str(tiny_model))])
    for step in steps:
        assert getattr(node, f"trigger_{step}")() == TransitionCallbackReturn.SUCCESS
    node.destroy_node()
    assert worker_threads() == []
    node.destroy_node()


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("argument", ["threshold:=2.0", "max_windows:=1.5", "device:=tpu", "score:=magic"])
def test_wrong_parameter_at_start_ends_with_one_line(argument, capfd):
    assert main(["--ros-args", "-p", argument]) == 1
    err = capfd.readouterr().err
    assert "cannot start" in err
    assert argument.split(":")[0] in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("signals")
def test_process_ends_with_the_context(monkeypatch):
    class Unwoken(SingleThreadedExecutor):
        calls = 0

        def spin_once(self, timeout_sec=None):
            assert timeout_sec is not None, "it would sleep for good"
            Unwoken.calls += 1
            if Unwoken.calls == 3:
                rclpy.try_shutdown()

    monkeypatch.setattr(program, "SingleThreadedExecutor", Unwoken)
    assert main(["--ros-args", "-p", "autostart:=false"]) == 0
    assert Unwoken.calls == 3


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("ends_after_s", [0.0, 0.1, None])
def test_executor_error_is_reported_unless_context_ends(monkeypatch, capfd, ends_after_s):
    class Interrupted(SingleThreadedExecutor):
        def spin_once(self, timeout_sec=None):
            if ends_after_s == 0:
                rclpy.try_shutdown()
            elif ends_after_s is not None:  # as ROS's own thread does, after the signal has interrupted Python
                threading.Timer(ends_after_s, rclpy.try_shutdown).start()
            raise RuntimeError("failed to publish: context is invalid")

    monkeypatch.setattr(program, "SingleThreadedExecutor", Interrupted)
    assert main(["--ros-args", "-p", "autostart:=false"]) == (1 if ends_after_s is None else 0)
    err = capfd.readouterr().err
    assert ("in spin_once" in err) == ("ended by an error" in err) == (ends_after_s is None)
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def layers():
    return sum(isinstance(held, torch.nn.Module) for held in gc.get_objects())


def test_cleanup_lets_go_of_the_model_at_once(rig):
    gc.collect()
    before = layers()
    rig.start()
    assert layers() > before
    gc.disable()
    try:
        assert rig.node.trigger_deactivate() == rig.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert layers() == before
    finally:
        gc.enable()


def test_cycles_leave_nothing_behind_in_rclpy(rig):
    """Callback groups remember for good what was ever in them (ros2/rclpy#1356)."""
    rig.start()
    remembered = rig.node.default_callback_group.entities
    before = len(remembered)
    for _ in range(2):
        for step in ("deactivate", "cleanup", "configure", "activate"):
            assert getattr(rig.node, f"trigger_{step}")() == TransitionCallbackReturn.SUCCESS
    assert len(remembered) == before
