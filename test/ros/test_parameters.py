"""ROS parameters against the dataclasses that they are declared from."""

from dataclasses import fields

import pytest

pytest.importorskip("rclpy")
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from eomt_ext_core.config import EngineConfig, WindowConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.node_config import NodeConfig
from eomt_ext_ros.parameters import LIVE_PARAMETERS, read_parameters

FIELDS = {
    **{item.name: item for config in (NodeConfig, EngineConfig) for item in fields(config) if "doc" in item.metadata},
    **{f"windows.{item.name}": item for item in fields(WindowConfig)},
}


def set_one(node, name, value):
    return node.set_parameters([Parameter(name, value=value)])[0]


def test_every_field_is_a_parameter_with_its_default(make_rig, context):
    from eomt_ext_ros.node import AnomalyNode

    node = AnomalyNode(context=context)
    foreign = {"use_sim_time", "start_type_description_service"}
    assert set(node._parameters) - foreign == set(FIELDS)
    assert {name: node.get_parameter(name).value for name in FIELDS} == {n: f.default for n, f in FIELDS.items()}
    assert read_parameters(node) == NodeConfig()
    node.destroy_node()


def test_descriptors_tell_the_ranges_and_choices(rig):
    names = list(FIELDS)
    response = rig.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
    for name, descriptor in zip(names, response.descriptors, strict=True):
        meta = FIELDS[name].metadata
        assert descriptor.description == meta["doc"]
        assert all(choice in descriptor.additional_constraints for choice in meta["choices"])
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert bool(ranges) == (meta["minimum"] is not None)
        if ranges:
            assert ranges[0].from_value == meta["minimum"]
            assert ranges[0].to_value == (2**31 - 1 if meta["maximum"] is None else meta["maximum"])


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("threshold", 1.5, "out of range"),
        ("threshold", float("nan"), "out of range"),
        ("batch_windows", 0, "out of range"),
        ("windows.scale", 0.0, "out of range"),
        ("threshold", "high", "Wrong parameter type"),
        ("precision", "fp8", "precision must be one of auto, fp32, bf16, fp16, got 'fp8'"),
        ("score", "magic", "score must be one of head, msp"),
        ("device", "tpu", "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("windows.mode", "spiral", "mode must be one of eomt, grid"),
    ],
)
def test_invalid_values_are_refused_with_the_rule(rig, name, value, rule):
    before = rig.node.get_parameter(name).value
    result = set_one(rig.node, name, value)
    assert not result.successful
    assert rule in result.reason
    assert rig.node.get_parameter(name).value == before
    assert read_parameters(rig.node) == rig.node.config


@pytest.mark.parametrize("parameters", [{"threshold": 7.0}, {"threshold": 1}, {"device": "tpu"}, {"score": ""}])
def test_invalid_values_at_the_start_end_the_node(make_rig, parameters):
    with pytest.raises((ConfigError, ParameterException), match=next(iter(parameters))):
        make_rig(**parameters)


def test_values_at_the_start_reach_the_engine(make_rig):
    rig = make_rig(threshold=0.25, score="msp", windows__mode="grid", windows__overlap=0.5)
    rig.node.trigger_configure()
    assert rig.node._engine.config == EngineConfig(
        device="cpu", threshold=0.25, score="msp", windows=WindowConfig(mode="grid", overlap=0.5)
    )


def test_fixed_parameters_change_only_while_unconfigured(rig):
    assert set_one(rig.node, "score", "msp").successful
    rig.node.trigger_configure()
    result = set_one(rig.node, "score", "energy")
    assert not result.successful
    assert "score can change only while the node is unconfigured" in result.reason
    assert rig.node.config.engine.score == "msp"
    assert set_one(rig.node, "score", "msp").successful, "the same value again, as loading a whole file sets it"
    rig.node.trigger_cleanup()
    assert set_one(rig.node, "score", "energy").successful
    rig.node.trigger_configure()
    assert rig.node._engine.config.score == "energy"


def test_a_mixed_atomic_change_changes_nothing(rig):
    rig.node.trigger_configure()
    both = [Parameter("threshold", value=0.1), Parameter("score", value="msp")]
    assert not rig.node.set_parameters_atomically(both).successful
    assert rig.node._engine.config.threshold == rig.node.config.engine.threshold == EngineConfig().threshold


def test_live_parameters_reach_the_running_engine_through_the_service(rig, image_msg):
    rig.start("mask")
    msg = image_msg(1)
    values = {"threshold": 0.0, "overlay_opacity": 0.5}
    assert set(values) == set(LIVE_PARAMETERS)
    for name, value in values.items():
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        assert rig.call(SetParameters, "set_parameters", request).results[0].successful
    assert set(rig.answer(msg, "mask").data) == {255}
    assert set_one(rig.node, "threshold", 1.0).successful
    assert set(rig.answer(msg, "mask").data) == {0}
    assert rig.node.config.overlay_opacity == 0.5


def test_qos_overrides_are_declared_and_take_effect_on_their_topic_alone(make_rig):
    prefix = "qos_overrides./eomt_ext/"
    rig = make_rig(
        **{
            f"{prefix}output/probability.publisher.reliability": "best_effort",
            f"{prefix}output/probability.publisher.depth": 7,
            f"{prefix}input/image.subscription.reliability": "reliable",
        }
    )
    rig.node.start()
    qos = {name: publisher.qos_profile for name, publisher in rig.node._outputs.items()}
    assert (qos["probability"].reliability.name, qos["probability"].depth) == ("BEST_EFFORT", 7)
    for name in set(qos) - {"probability"}:
        assert (qos[name].reliability.name, qos[name].depth) == ("RELIABLE", 1), name
    image, camera_info = (subscription.qos_profile for subscription in rig.node._subscriptions_here)
    assert (image.reliability.name, image.depth) == ("RELIABLE", 1)
    assert (camera_info.reliability.name, camera_info.depth) == ("BEST_EFFORT", 1)
    assert rig.node.get_parameter(f"{prefix}output/mask.publisher.depth").value == 1
    assert not set_one(rig.node, f"{prefix}output/mask.publisher.depth", 2).successful


@pytest.mark.parametrize("topic", ["output/mask.publisher", "input/camera_info.subscription"])
def test_a_wrong_qos_override_fails_and_leaves_nothing_behind(make_rig, capfd, topic):
    rig = make_rig(**{f"qos_overrides./eomt_ext/{topic}.reliability": "telepathic"})
    configured = rig.node.trigger_configure()
    if topic.startswith("output"):
        assert configured == TransitionCallbackReturn.FAILURE
        assert rig.node._outputs == {}
        assert not rig.node._managed_entities
        assert rig.state == "unconfigured"
    else:
        assert rig.node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert rig.node._worker is None
        assert rig.node._subscriptions_here == []
        assert not any(publisher.is_activated for publisher in rig.node._outputs.values())
        assert rig.state == "inactive"
    assert "telepathic" in capfd.readouterr().err
