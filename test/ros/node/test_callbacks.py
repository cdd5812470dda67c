"""No callback of a node's executor can end the process: each is made to raise, over real DDS."""

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.qos import qos_profile_sensor_data
from std_srvs.srv import SetBool, Trigger

from eomt_ext_ros.diagnostics import publisher as diagnostics


class Broken:
    """Takes the place of what a guarded callback calls, and raises."""

    def __init__(self, guarded):
        self.calls = 0
        self.cell = guarded.__closure__[guarded.__code__.co_freevars.index("callback")]
        self.whole, self.cell.cell_contents = self.cell.cell_contents, self

    def __call__(self, *args):
        self.calls += 1
        raise KeyError("layer 7")

    def mend(self):
        self.cell.cell_contents = self.whole


def publish_to(rig, subscription):
    topic = subscription.topic_name
    publisher = rig.client.create_publisher(subscription.msg_type, topic, qos_profile_sensor_data)
    rig.spin_until(publisher.get_subscription_count, f"discovery of {topic}")
    publisher.publish(subscription.msg_type())


def request_of(rig, name, service):
    client = rig.client.create_client(service.srv_type, name)
    rig.spin_until(client.service_is_ready, name)
    reply = client.call_async(service.srv_type.Request())
    rig.spin_until(reply.done, f"the reply of {name}")
    if service.srv_type in (SetBool, Trigger):
        assert (reply.result().success, "KeyError: 'layer 7'" in reply.result().message) == (False, True)


def set_a_parameter(rig):
    assert "KeyError: 'layer 7'" in rig.set(threshold=0.25)
    assert rig.node.get_parameter("threshold").value != 0.25


def test_node_survives_and_reports_callback_errors(stand_in, image_msg, monkeypatch, capfd):
    monkeypatch.setattr(diagnostics, "PERIOD_S", 0.2)
    rig = stand_in()
    rig.start("probability")
    node = rig.node

    def check(guarded, what, trigger, *args):
        broken = Broken(guarded)
        trigger(*args)
        rig.spin_until(lambda: broken.calls, f"{what} to be called")
        broken.mend()
        status = rig.diagnostics()["inference"]
        assert status.level == DiagnosticStatus.ERROR
        assert f"the callback of {what} failed: KeyError: 'layer 7'" in status.message
        assert f"the callback of {what} failed: Traceback" in capfd.readouterr().err

    assert not any(getattr(node, f"_{when}_set_parameters_callbacks", None) for when in ("pre", "post")), "guard them"
    assert len(node._on_set_parameters_callbacks) == 2, "ours, and that of rclpy for use_sim_time"
    for callback in node._on_set_parameters_callbacks:
        check(callback, f"the parameters' check {callback.__qualname__}", set_a_parameter, rig)
    assert len(list(node.subscriptions)) == 2
    for subscription in node.subscriptions:
        check(subscription.callback, subscription.topic_name, publish_to, rig, subscription)
    services = {node.resolve_service_name(service.srv_name): service for service in node.services}
    names = {name.removeprefix("/eomt_ext/") for name in services}
    assert {"set_enabled", "reload", "change_state", "set_parameters", "get_type_description"} <= names
    for name, service in services.items():
        check(service.callback, name, request_of, rig, name, service)
    (timer,) = node.timers
    check(timer.callback, "the timer Diagnostics.publish", lambda: None)
    assert [rig.change_state(label) for label in ("deactivate", "cleanup", "configure", "activate")] == [True] * 4
    rig.answer(rig.stamped(image_msg(1)))
    assert {status.level for status in rig.diagnostics().values()} == {DiagnosticStatus.OK}


def test_successful_callback_ends_its_error(stand_in, image_msg):
    rig = stand_in()
    rig.start("probability")
    broken = Broken(rig.cameras[""].subscriptions[0].callback)
    rig.publishers[""][0].publish(image_msg(1))
    rig.spin_until(lambda: broken.calls, "an image")
    assert "/eomt_ext/input/image failed" in rig.diagnostics()["inference"].message
    broken.mend()
    rig.answer(rig.stamped(image_msg(2)))
    assert {status.level for status in rig.diagnostics().values()} == {DiagnosticStatus.OK}


@pytest.mark.parametrize("service", [SetParameters, SetParametersAtomically])
def test_a_parameter_of_no_known_type_is_refused(stand_in, service):
    rig = stand_in()
    request = service.Request(parameters=[Parameter(name="threshold", value=ParameterValue(type=250))] * 2)
    name = "set_parameters" if service is SetParameters else "set_parameters_atomically"
    reply = rig.call(service, name, request)
    results = reply.results if service is SetParameters else [reply.result]
    assert len(results) == (2 if service is SetParameters else 1)
    for result in results:
        assert not result.successful
        assert "250 is not a valid Parameter.Type" in result.reason
    assert rig.set(threshold=0.25) == ""


def test_unpublishable_description_does_not_end_diagnostics(stand_in, image_msg, monkeypatch, capfd):
    class Unpublishable(stand_in.keywords["engine_factory"]):
        def describe(self, *args):
            return {**super().describe(*args), "exported_from_head": {"a": 1}}

    monkeypatch.setattr(diagnostics, "PERIOD_S", 0.2)
    rig = stand_in()
    rig.start("probability")
    factory = rig.node._engine_factory
    rig.diagnostics()
    rig.node._engine_factory = Unpublishable
    assert rig.call(Trigger, "reload", Trigger.Request()).success
    heard = rig.messages("diagnostics")

    def newest():
        return {status.name: status for status in heard[-1].status}["eomt_ext: inference"]

    rig.spin_until(lambda: "diagnostics fail: " in newest().message, "diagnostics that fail")
    assert newest().level == DiagnosticStatus.ERROR
    rig.answer(rig.stamped(image_msg(1)))
    count = len(heard)
    rig.spin_until(lambda: len(heard) > count, "diagnostics that go on")
    assert "diagnostics fail: " in newest().message
    assert capfd.readouterr().err.count("Traceback") == 1
    rig.node._engine_factory = factory
    assert rig.call(Trigger, "reload", Trigger.Request()).success
    rig.spin_until(lambda: newest().level == DiagnosticStatus.OK, "diagnostics that are whole again")


def test_a_signal_amid_a_callback_is_no_error(stand_in, image_msg, monkeypatch, capfd):
    """Python interrupts rclpy, which raises a RuntimeError; the context ends a little later."""
    rig = stand_in()
    rig.start("probability")
    ends = []
    monkeypatch.setattr("eomt_ext_ros.node.callbacks.context_ends", lambda is_ok: ends.append(is_ok()) or True)
    rig.node.enable(False)  # so that the statistics are asked
    monkeypatch.setattr(rig.node.statistics[""], "skipped", interrupted)
    rig.send(image_msg(1))
    rig.spin_until(lambda: ends, "the image")
    assert "Traceback" not in capfd.readouterr().err


def interrupted(*_):
    raise RuntimeError("failed to convert a message: KeyboardInterrupt")
