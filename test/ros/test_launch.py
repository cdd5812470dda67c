"""The launch file, run against a minimal stand-in for launch and launch_ros, and the real ones where they are."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from eomt_ext_ros.dds_profile import profile_environment, publication_environment
from eomt_ext_ros.node_config import OUTPUTS

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "fastdds.xml"


@pytest.fixture
def launch_file(launch_stand_ins, load_launch_file):
    return load_launch_file("anomaly")


@pytest.fixture
def launched(launch_file):
    """The nodes that ``ros2 launch … name:=value`` would start."""

    def launch(**given):
        *arguments, opaque = launch_file.generate_launch_description().args[0]
        defaults = {argument.args[0]: argument.default_value for argument in arguments}
        assert given.keys() <= defaults.keys()
        return [SimpleNamespace(**node.__dict__) for node in opaque.function(defaults | given)]

    return launch


def test_by_default_the_node_alone_runs_with_the_packages_parameter_file(launched):
    (node,) = launched()
    assert (node.package, node.executable, node.name) == ("eomt_ext_ros", "anomaly_node", "eomt_ext")
    assert node.parameters == [str(ROOT / "config" / "anomaly.yaml")]
    assert node.remappings == []
    assert node.additional_env == profile_environment({}, PROFILE) | publication_environment({})
    assert PROFILE.is_file()


def test_the_executable_is_one_that_the_package_installs(launched):
    assert f"{launched()[0].executable} = eomt_ext_ros.entry:anomaly_node" in (ROOT / "setup.cfg").read_text()


def test_what_is_given_overrides_the_parameter_file(launched):
    (node,) = launched(
        namespace="front", params_file="/my.yaml", checkpoint="42", device="cuda:1", autostart="False", use_sim_time="1"
    )
    overrides = {"checkpoint": "42", "device": "cuda:1", "autostart": False, "use_sim_time": True}
    assert node.parameters == ["/my.yaml", overrides]
    assert node.namespace == "front"
    assert node.arguments == ["--ros-args", "--log-level", "info"]


@pytest.mark.parametrize("argument", ["autostart", "use_sim_time", "require_cuda", "rviz"])
def test_what_is_neither_true_nor_false_is_refused(launched, argument):
    with pytest.raises(ValueError, match=f"{argument} must be true or false, got 'maybe'"):
        launched(**{argument: "maybe"})


@pytest.mark.parametrize(
    ("image_topic", "camera_info_topic", "expected"),
    [
        ("/camera/image_raw", "", "/camera/camera_info"),
        ("image_raw", "", "camera_info"),
        ("/image_raw", "", "/camera_info"),
        ("/camera/image_raw", "/calibration", "/calibration"),
    ],
)
def test_the_calibration_is_looked_for_beside_the_images(launched, image_topic, camera_info_topic, expected):
    (node,) = launched(image_topic=image_topic, camera_info_topic=camera_info_topic)
    assert node.remappings == [
        ("~/input/image", image_topic),
        ("~/input/image/compressed", f"{image_topic}/compressed"),
        ("~/input/camera_info", expected),
    ]


def test_rviz_shows_the_topics_of_the_nodes_namespace(launched):
    _, rviz = launched(rviz="true", namespace="/front/")
    assert rviz.package == rviz.executable == "rviz2"
    assert Path(rviz.arguments[1]).is_file()
    assert ("/eomt_ext/output/overlay", "/front/eomt_ext/output/overlay") in rviz.remappings
    assert rviz.additional_env == profile_environment({}, PROFILE)
    assert launched(rviz="true")[1].remappings == []


def test_several_cameras_have_topics_and_parameters_of_their_own(launched):
    node, rviz = launched(
        cameras="front, rear", image_topic="/{camera}/image_raw", image_transport="compressed", rviz="true"
    )
    assert node.parameters[1] == {"image_transport": "compressed", "cameras": ["front", "rear"]}
    assert node.remappings == [
        ("~/front/input/image", "/front/image_raw"),
        ("~/front/input/image/compressed", "/front/image_raw/compressed"),
        ("~/front/input/camera_info", "/front/camera_info"),
        ("~/rear/input/image", "/rear/image_raw"),
        ("~/rear/input/image/compressed", "/rear/image_raw/compressed"),
        ("~/rear/input/camera_info", "/rear/camera_info"),
    ]
    assert ("/eomt_ext/output/overlay", "/eomt_ext/front/output/overlay") in rviz.remappings
    with pytest.raises(ValueError, match=r"must hold \{camera\} for the name"):
        launched(cameras="front,rear", image_topic="/image_raw")


def test_a_transport_that_only_the_parameter_file_names_is_remapped_too(launched):
    (node,) = launched(params_file="/compressed.yaml", image_topic="/camera/image_raw")
    assert ("~/input/image/compressed", "/camera/image_raw/compressed") in node.remappings


@pytest.mark.parametrize("argument", ["image_topic", "camera_info_topic"])
def test_a_pattern_without_the_names_that_it_stands_for_is_refused(launched, argument):
    with pytest.raises(ValueError, match=r"stands for the names in the argument cameras, got /\{camera\}/x"):
        launched(params_file="/cameras.yaml", **{argument: "/{camera}/x"})


def test_topics_that_the_launch_file_names_are_those_of_the_node(launch_file):
    assert launch_file.OUTPUTS == OUTPUTS


def test_the_real_launch_takes_the_description(load_launch_file):
    launch = pytest.importorskip("launch")
    pytest.importorskip("launch_ros")
    if not hasattr(launch, "LaunchDescription"):
        pytest.skip("this 'launch' is another package")
    description = load_launch_file("anomaly").generate_launch_description()
    assert description.entities


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "kilted"}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "rolling", "RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "humble", "ROS_LOCALHOST_ONLY": "0"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": ""}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, None),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"}, None),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"}, None),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, None),
        ({"ROS_LOCALHOST_ONLY": "1"}, None),
    ],
)
def test_the_profile_is_named_where_the_user_chose_nothing(environment, variable):
    assert profile_environment(environment, PROFILE) == ({variable: str(PROFILE)} if variable else {})


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "ASYNCHRONOUS"),
        ({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp", "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, "ASYNCHRONOUS"),
        ({"RMW_FASTRTPS_PUBLICATION_MODE": "SYNCHRONOUS"}, None),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, None),
    ],
)
def test_the_node_publishes_asynchronously_where_the_user_chose_nothing(environment, mode):
    assert publication_environment(environment).get("RMW_FASTRTPS_PUBLICATION_MODE") == mode
