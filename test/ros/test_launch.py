"""The launch file, run against the stand-in for launch and launch_ros."""

import subprocess
import sys
from pathlib import Path

import pytest

from eomt_ext_ros.process.dds_profile import profile_environment, publication_environment

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "fastdds.xml"
DEFAULTS = ROOT / "config" / "anomaly.yaml"


@pytest.fixture
def launched(launch_stand_in):
    """The nodes that ``ros2 launch … name:=value`` would start."""

    def launch(**given):
        context = launch_stand_in.run(ROOT / "launch" / "anomaly.launch.py", **given)
        assert given.keys() <= {*context.arguments, "ros_namespace"}
        return context.processes

    return launch


@pytest.fixture
def params_file(tmp_path):
    """A parameter file of the user's own."""
    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters:\n    image_transport: compressed\n")
    return str(path)


def test_default_launch_runs_node_with_package_parameters(launched):
    (node,) = launched()
    assert (node.package, node.executable, node.name) == ("eomt_ext_ros", "anomaly_node", "eomt_ext")
    assert node.parameters == [str(DEFAULTS)]
    assert node.remappings == []
    assert node.additional_env == profile_environment({}, PROFILE) | publication_environment({})
    assert PROFILE.is_file()


def test_the_executable_is_one_that_the_package_installs(launched):
    assert f"{launched()[0].executable} = eomt_ext_ros.entry:anomaly_node" in (ROOT / "setup.cfg").read_text()


def test_what_is_given_overrides_the_parameter_file(launched, params_file):
    (node,) = launched(
        namespace="front",
        params_file=params_file,
        checkpoint="42",
        device="cuda:1",
        autostart="False",
        use_sim_time="1",
        score="rba",
        threshold="1",
        outputs="mask, obstacles",
    )
    overrides = {
        "checkpoint": "42",
        "device": "cuda:1",
        "autostart": False,
        "use_sim_time": True,
        "score": "rba",
        "threshold": 1.0,
        "outputs": ["mask", "obstacles"],
    }
    assert node.parameters == [params_file, overrides]
    assert type(node.parameters[1]["threshold"]) is float, "which is what the parameter is"
    assert node.node_name == "/front/eomt_ext"
    assert node.arguments == ["--ros-args", "--log-level", "info"]


def test_empty_argument_of_including_file_is_the_default(launched):
    (node,) = launched(params_file="", log_level="", rviz="", respawn="")
    assert node.parameters == [str(DEFAULTS)]
    assert node.arguments == ["--ros-args", "--log-level", "info"]
    assert not node.respawn


def test_the_process_starts_anew_if_asked_to(launched):
    (node,) = launched(respawn="true")
    assert node.respawn is True
    assert node.respawn_delay > 0, "or a node that cannot start keeps a core busy"


@pytest.mark.parametrize("argument", ["autostart", "use_sim_time", "require_cuda", "rviz", "respawn"])
def test_what_is_neither_true_nor_false_is_refused(launched, argument):
    with pytest.raises(ValueError, match=f"{argument} must be true or false, got 'maybe'"):
        launched(**{argument: "maybe"})


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"params_file": "/no/such.yaml"}, "params_file must be a file that exists, got /no/such.yaml"),
        ({"params_file": str(ROOT)}, "params_file must be a file that exists"),
        ({"threshold": "high"}, "threshold must be a number, got 'high'"),
        ({"threshold": "nan"}, "threshold must be a number, got 'nan'"),
        ({"outputs": "mask,pizza"}, "outputs must be some of probability, .*, got pizza"),
        ({"outputs": " , "}, "outputs must name at least one output"),
    ],
)
def test_what_makes_no_sense_is_refused(launched, given, rule):
    with pytest.raises(ValueError, match=rule):
        launched(**given)


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
    assert len(node.parameters) == 1


def test_a_compressed_topic_is_taken_as_it_is(launched):
    (node,) = launched(image_topic="/camera/image_raw/compressed")
    assert node.remappings == launched(image_topic="/camera/image_raw")[0].remappings
    assert node.parameters[1] == {"image_transport": "compressed"}
    (node,) = launched(image_topic="/camera/image_raw/compressed", image_transport="raw")
    assert node.parameters[1] == {"image_transport": "raw"}, "what a person says"


@pytest.mark.parametrize(
    ("pushed", "namespace", "whole"),
    [("", "/front/", "/front"), ("/car", "", "/car"), ("/car", "front", "/car/front"), ("/car", "/front", "/front")],
)
def test_rviz_shows_the_topics_of_the_nodes_namespace(launched, pushed, namespace, whole):
    node, rviz = launched(rviz="true", namespace=namespace, ros_namespace=pushed)
    assert rviz.package == rviz.executable == "rviz2"
    assert Path(rviz.arguments[1]).is_file()
    assert node.node_name == f"{whole}/eomt_ext"
    assert ("/eomt_ext/output/overlay", f"{whole}/eomt_ext/output/overlay") in rviz.remappings
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
    with pytest.raises(ValueError, match=r"must contain \{camera\} for the name"):
        launched(cameras="front,rear", image_topic="/image_raw")


def test_transport_of_parameter_file_is_remapped(launched, params_file):
    (node,) = launched(params_file=params_file, image_topic="/camera/image_raw")
    assert ("~/input/image/compressed", "/camera/image_raw/compressed") in node.remappings


@pytest.mark.parametrize("argument", ["image_topic", "camera_info_topic"])
def test_pattern_without_camera_names_is_refused(launched, params_file, argument):
    with pytest.raises(ValueError, match=r"needs the argument cameras, got /\{camera\}/x"):
        launched(params_file=params_file, **{argument: "/{camera}/x"})


def test_launch_files_import_nothing_outside_ros():
    program = (
        "import sys, eomt_ext_ros.process.launch_arguments, eomt_ext_ros.process.dds_profile;"
        "sys.exit(sorted({'torch', 'timm', 'cv2', 'numpy'} & sys.modules.keys()) or None)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


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
def test_publishes_asynchronously_by_default(environment, mode):
    assert publication_environment(environment).get("RMW_FASTRTPS_PUBLICATION_MODE") == mode
