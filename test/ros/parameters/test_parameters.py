"""ROS parameters against the dataclasses that they are declared from."""

import pytest

pytest.importorskip("rclpy")
import yaml
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from eomt_ext_core.config import EngineConfig, WindowConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.parameters.node_config import CameraConfig, NodeConfig
from eomt_ext_ros.parameters.parameter_fields import parameter_fields
from eomt_ext_ros.parameters.ros_parameters import FIXED_NOTE, read_parameters, ros_value

FIELDS = {item.name: item for item in parameter_fields(NodeConfig)}
# A value other than the default for each live parameter.
LIVE = {
    "health.enabled": True,
    "health.require": True,
    "health.enter_s": 0.5,
    "health.leave_s": 2.0,
    "health.black_level": 10.0,
    "health.white_fraction": 0.75,
    "health.least_sharpness": 0.05,
    "health.still_change": 0.2,
    "health.dirt_fraction": 0.02,
    "checkpoint": "other.safetensors",
    "head": "head.safetensors",
    "normality": "other_normal.safetensors",
    "max_batch_cameras": 2,
    "max_rate_hz": 7.5,
    "in_flight": 2,
    "outputs": ["mask", "overlay"],
    "publish_scale": 0.5,
    "overlay_opacity": 0.25,
    "colour_map": "viridis",
    "threshold": 0.75,  # before a baseline, which needs one
    "score": "msp",
    "drift_alpha": 0.05,
    "batch_windows": 3,
    "windows.mode": "grid",
    "windows.blend": "hann",
    "windows.overlap": 0.5,
    "windows.scale": 2.0,
    "windows.horizon": 0.375,
    "windows.fovea": 0.25,
    "obstacles.threshold_low": 0.25,
    "obstacles.min_area_px": 7,
    "obstacles.max_obstacles": 9,
    "obstacles.polygon": [0.0, 0.5, 1.0, 0.5, 1.0, 1.0],
    "obstacles.region": "polygon",
    "obstacles.drivable_classes": ["0", "1"],
    "obstacles.confirmed_only": True,
    "tracking.enabled": True,
    "tracking.confirm_frames": 4,
    "tracking.confirm_evidence": 0.75,
    "tracking.keep_evidence": 0.25,
    "tracking.coast_frames": 0,
    "tracking.memory_frames": 2.5,
    "tracking.reset_after_s": 0.5,
    "obstacles.drivable_reach": 0.5,
    "ground.enabled": False,
    "ground.frame_id": "base_footprint",
    "ground.height_m": 1.5,
    "ground.pitch_deg": -3.0,
    "ground.roll_deg": 2.0,
    "ground.pitch_deviation_deg": 1.0,
    "ground.roll_deviation_deg": 1.5,
    "ground.height_deviation_m": 0.125,
    "ground.max_range_m": 50.0,
    "ground.max_transform_age_s": 0.25,
    "ground.rectified": True,
    "diagnostics.silent_after_s": 1.5,
    "diagnostics.late_after_s": 0.125,
    "diagnostics.late_frames": 2,
    "diagnostics.hung_after_s": 30.0,
}


def set_one(node, name, value):
    return node.set_parameters([Parameter(name, value=value)])[0]


def test_every_field_is_a_parameter_with_its_default(make_rig, context):
    from eomt_ext_ros.node import AnomalyNode

    node = AnomalyNode(context=context)
    foreign = {"use_sim_time", "start_type_description_service"}
    assert set(node._parameters) - foreign == set(FIELDS)
    assert {name: node.get_parameter(name).value for name in FIELDS} == {n: ros_value(f) for n, f in FIELDS.items()}
    assert read_parameters(node) == NodeConfig()
    node.destroy_node()


def test_descriptors_tell_the_ranges_and_choices(rig):
    names = list(FIELDS)
    response = rig.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names))
    for name, descriptor in zip(names, response.descriptors, strict=True):
        item = FIELDS[name]
        assert descriptor.description == (item.doc if item.live else f"{item.doc} ({FIXED_NOTE})")
        assert not descriptor.read_only
        assert descriptor.dynamic_typing == (item.is_list or item.kind is float)
        assert all(choice in descriptor.additional_constraints for choice in item.choices)
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert bool(ranges) == (item.minimum is not None)
        if ranges:
            unbounded = 2**31 - 1 if item.kind is int else 1e9
            assert ranges[0].from_value == item.minimum
            assert ranges[0].to_value == (unbounded if item.maximum is None else item.maximum)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("threshold", 1.5, "out of range"),
        ("threshold", float("nan"), "out of range"),
        ("batch_windows", 0, "out of range"),
        ("windows.scale", 0.0, "out of range"),
        ("threshold", "high", "threshold must be of type float, got 'high'"),
        ("threshold", True, "threshold must be of type float, got True"),
        ("threshold", 2, "threshold must be at most 1.0, got 2.0"),
        ("batch_windows", "many", "Wrong parameter type"),
        ("precision", "fp8", "precision must be one of auto, fp32, bf16, fp16, got 'fp8'"),
        ("score", "magic", "score must be one of head, msp"),
        ("device", "tpu", "device must be auto, cpu, cuda or cuda:N, got 'tpu' with backend auto"),
        ("windows.mode", "spiral", "mode must be one of eomt, grid, fovea"),
        ("cameras", "front", "cameras must be a list, got 'front'"),
        ("cameras", [1, 2], "cameras must hold values of type str, got 1"),
        ("outputs", ["mask", "pizza"], "got pizza"),
        ("obstacles.polygon", [True] * 6, "obstacles.polygon must hold values of type float, got True"),
        ("obstacles.polygon", [0.0, 0.0, 1.0], "polygon must be x, y of at least three corners, got 3 numbers"),
        ("obstacles.min_area_px", 0, "out of range"),
        ("obstacles.polygon", None, "obstacles.polygon cannot be deleted"),
        ("checkpoint", "hf://owner/name", "with `eomt-ext convert hf://owner/name model.safetensors`"),
        ("head", "hf://owner/name", "head must be a local file or folder, as the node downloads nothing"),
    ],
)
def test_invalid_values_are_refused_with_the_rule(rig, name, value, rule):
    before = rig.node.get_parameter(name).value
    result = set_one(rig.node, name, value)
    assert not result.successful
    assert rule in result.reason
    assert rig.node.get_parameter(name).value == before
    assert read_parameters(rig.node) == rig.node.config


@pytest.mark.parametrize(
    "parameters", [{"threshold": 7.0}, {"threshold": 7}, {"device": "tpu"}, {"score": ""}, {"checkpoint": "hf://a/b"}]
)
def test_invalid_values_at_the_start_end_the_node(make_rig, parameters):
    with pytest.raises((ConfigError, ParameterException), match=next(iter(parameters))):
        make_rig(**parameters)


def test_values_at_the_start_reach_the_engine(make_rig):
    rig = make_rig(threshold=0.25, score="msp", windows__mode="grid", windows__overlap=0.5)
    rig.node.trigger_configure()
    assert rig.engine_config == EngineConfig(
        device="cpu", threshold=0.25, score="msp", windows=WindowConfig(mode="grid", overlap=0.5)
    )


def test_a_whole_number_stands_for_a_float(make_rig):
    rig = make_rig(max_rate_hz=10, obstacles__polygon=[0, 0, 1, 0, 1, 1])
    assert rig.node.config.max_rate_hz == 10.0
    assert rig.node.get_parameter("max_rate_hz").type_ == Parameter.Type.DOUBLE
    assert rig.node.get_parameter("obstacles.polygon").type_ == Parameter.Type.DOUBLE_ARRAY
    assert rig.set(max_rate_hz=5) == ""
    assert rig.node.config.max_rate_hz == 5.0


@pytest.mark.parametrize("empty", ["[]", "null"])
def test_what_is_dumped_starts_the_node_anew(context, tmp_path, empty):
    from eomt_ext_ros.node import AnomalyNode

    path = tmp_path / "parameters.yaml"

    def start(text):
        path.write_text(text)
        node = AnomalyNode(context=context, cli_args=["--ros-args", "--params-file", str(path)])
        names = set(node._parameters) - {"use_sim_time", "start_type_description_service"}
        values = {name: node.get_parameter(name).value for name in names}
        assert node.get_parameter("obstacles.polygon").type_ == Parameter.Type.DOUBLE_ARRAY
        config = node.config
        node.destroy_node()
        return config, yaml.safe_dump({"/eomt_ext": {"ros__parameters": values}})

    first, dumped = start(f"/**: {{ros__parameters: {{obstacles: {{polygon: {empty}}}, cameras: {empty}}}}}")
    again, dumped_again = start(dumped)
    assert first == again == NodeConfig()
    assert dumped == dumped_again


def test_an_empty_list_is_loaded_while_the_node_runs(make_rig):
    rig = make_rig(obstacles__polygon=[0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    assert rig.set(obstacles__polygon="None") == "", "what `ros2 param load` makes of a null"
    assert rig.node.config.obstacles.polygon == ()


def test_fixed_parameters_change_only_while_unconfigured(rig):
    assert set_one(rig.node, "max_windows", 8).successful
    rig.node.trigger_configure()
    result = set_one(rig.node, "max_windows", 9)
    assert not result.successful
    assert result.reason == "max_windows can change only while the node is unconfigured: clean it up first"
    assert rig.node.config.engine.max_windows == 8
    assert set_one(rig.node, "max_windows", 8).successful, "the same value again, as loading a whole file sets it"
    rig.node.trigger_cleanup()
    assert set_one(rig.node, "max_windows", 9).successful
    rig.node.trigger_configure()
    assert rig.engine_config.max_windows == 9


def test_only_live_parameters_change_in_active_node(rig):
    assert set(LIVE) == {name for name, item in FIELDS.items() if item.live}
    rig.start()
    assert rig.engine_config == rig.node.config.engine
    for name, value in LIVE.items():
        result = set_one(rig.node, name, value)
        assert result.successful, f"{name}: {result.reason}"
        assert rig.node.get_parameter(name).value == value
    assert read_parameters(rig.node) == rig.node.config
    assert rig.engine_config == rig.node.config.engine
    windows = WindowConfig("grid", "hann", overlap=0.5, scale=2.0, horizon=0.375, fovea=0.25)
    assert rig.node.config.engine == EngineConfig(
        device="cpu", score="msp", threshold=0.75, drift_alpha=0.05, batch_windows=3, windows=windows
    )
    assert rig.node.config.obstacles.polygon == (0.0, 0.5, 1.0, 0.5, 1.0, 1.0)
    assert rig.node.config.diagnostics.silent_after_s == 1.5


@pytest.mark.parametrize("empty", [[], [""]])
def test_a_list_can_be_emptied_while_the_node_runs(rig, empty):
    rig.start()
    assert set_one(rig.node, "outputs", empty).successful
    assert rig.node.config.outputs == ()
    assert set_one(rig.node, "obstacles.polygon", [0, 0, 1, 0, 1, 1]).successful, "whole numbers"
    assert rig.node.config.obstacles.polygon == (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)
    assert set_one(rig.node, "obstacles.polygon", empty).successful
    assert rig.node.config.obstacles.polygon == ()


def test_a_score_that_the_model_has_not_is_refused(make_rig, tiny_model, tmp_path):
    from eomt_ext_core import EoMTExt, load_model, save_model

    save_model(EoMTExt(load_model(tiny_model).config), tmp_path / "headless.safetensors")
    rig = make_rig(checkpoint=str(tmp_path / "headless.safetensors"), score="msp", threshold=0.5)
    rig.start()
    result = set_one(rig.node, "score", "head")
    assert not result.successful
    assert "needs a model with an anomaly head" in result.reason
    result = set_one(rig.node, "threshold", -1.0)
    assert not result.successful
    assert "score msp needs a threshold" in result.reason
    assert rig.node.config.engine.score == rig.engine_config.score == "msp"


def test_each_camera_has_its_parameters(make_rig):
    triangle = [0.0, 1.0, 0.5, 0.5, 1.0, 1.0]
    rig = make_rig(cameras=["front", "rear"], front__polygon=triangle)
    for item in parameter_fields(CameraConfig, "rear."):
        assert rig.node.get_parameter(item.name).value == ros_value(item)
    rig.start()
    assert rig.node.settings.cameras["front"].polygon == tuple(triangle)
    assert rig.node.settings.cameras["rear"].polygon == ()
    assert set_one(rig.node, "rear.polygon", triangle).successful
    assert rig.node.settings.cameras["rear"].polygon == tuple(triangle)
    assert "at least three corners" in set_one(rig.node, "rear.polygon", [1.0]).reason
    assert not set_one(rig.node, "cameras", ["front"]).successful


def test_a_mixed_atomic_change_changes_nothing(rig):
    rig.node.trigger_configure()
    both = [Parameter("threshold", value=0.1), Parameter("max_windows", value=9)]
    assert not rig.node.set_parameters_atomically(both).successful
    assert rig.engine_config == rig.node.config.engine == EngineConfig(device="cpu")


def test_live_parameters_reach_the_running_engine_through_the_service(rig, image_msg):
    rig.start("mask")
    values = {"threshold": 0.0, "overlay_opacity": 0.5}
    for name, value in values.items():
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        assert rig.call(SetParameters, "set_parameters", request).results[0].successful
    assert set(rig.answer(image_msg(1), "mask").data) == {255}
    assert set_one(rig.node, "threshold", 1.0).successful
    assert set(rig.answer(image_msg(2), "mask").data) == {0}
    assert rig.node.config.overlay_opacity == 0.5


def test_qos_overrides_apply_to_their_topic_alone(make_rig):
    prefix = "qos_overrides./eomt_ext/"
    rig = make_rig(
        **{
            f"{prefix}output/probability.publisher.reliability": "best_effort",
            f"{prefix}output/probability.publisher.depth": 7,
            f"{prefix}input/image.subscription.reliability": "reliable",
        }
    )
    rig.node.start()
    qos = {name: publisher.qos_profile for name, publisher in rig.cameras[""].publishers.items()}
    assert (qos["probability"].reliability.name, qos["probability"].depth) == ("BEST_EFFORT", 7)
    for name in set(qos) - {"probability"}:
        assert (qos[name].reliability.name, qos[name].depth) == ("RELIABLE", 1), name
    image, camera_info = (subscription.qos_profile for subscription in rig.cameras[""].subscriptions)
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
        assert rig.cameras == {}
        assert not rig.node._managed_entities
        assert rig.state == "unconfigured"
    else:
        assert rig.node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert rig.cameras[""].subscriptions == []
        assert not any(publisher.is_activated for publisher in rig.cameras[""].publishers.values())
        assert rig.state == "inactive"
    assert "telepathic" in capfd.readouterr().err
