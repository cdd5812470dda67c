"""Start the anomaly node and, where asked for, rviz2. Installs and downloads nothing."""

import os
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from eomt_ext_ros.process.dds_profile import profile_environment, publication_environment
from launch import LaunchContext, LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / "config"
NODE = "eomt_ext"
OUTPUTS = ("probability", "mask", "overlay", "heatmap", "semantic", "obstacles", "camera_info")
AS_IN_FILE = "; empty: as in params_file, else the node's default"

# name, default, description. Defaults of parameters are kept in one place, which is not here.
ARGUMENTS = (
    ("namespace", "", "namespace of the node"),
    ("params_file", str(CONFIG / "anomaly.yaml"), "YAML file with the node's parameters"),
    ("use_sim_time", "", "true or false" + AS_IN_FILE),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("autostart", "", "true or false: configure and activate at start" + AS_IN_FILE),
    ("cameras", "", "names of several cameras, separated by commas" + AS_IN_FILE),
    ("image_topic", "", "camera images; of several cameras, named by cameras, with {camera}; empty: ~/input/image"),
    ("camera_info_topic", "", "calibration of the camera, as image_topic; empty: camera_info beside image_topic"),
    ("image_transport", "", "raw, or compressed for image_topic/compressed" + AS_IN_FILE),
    ("checkpoint", "", "file or folder of the model, or demo" + AS_IN_FILE),
    ("device", "", "auto, cpu, cuda or cuda:N" + AS_IN_FILE),
    ("require_cuda", "", "true or false: refuse to run on a CPU" + AS_IN_FILE),
    ("rviz", "false", "true or false: start rviz2 with the package's displays"),
)


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Node]:
    """The processes, decided when the arguments have their values."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    profile = profile_environment(os.environ, CONFIG / "fastdds.xml")
    cameras = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    words = ("checkpoint", "device", "image_transport")
    parameters = {name: ParameterValue(given[name], value_type=str) for name in words if given[name]}
    switches = ("use_sim_time", "autostart", "require_cuda")
    parameters.update({name: is_true(name, given) for name in switches if given[name]})
    if cameras:
        parameters["cameras"] = cameras
    nodes = [
        Node(
            package="eomt_ext_ros",
            executable="anomaly_node",
            name=NODE,
            namespace=given["namespace"],
            parameters=[given["params_file"], *([parameters] if parameters else [])],
            remappings=list(input_remappings(given, cameras).items()),
            arguments=["--ros-args", "--log-level", given["log_level"]],
            additional_env=profile | publication_environment(os.environ),
            output="screen",
        )
    ]
    if is_true("rviz", given):
        prefix = "/" + given["namespace"].strip("/") if given["namespace"].strip("/") else ""
        camera = f"/{cameras[0]}" if cameras else ""  # the displays show one
        topics = {f"/{NODE}/output/{name}": f"{prefix}/{NODE}{camera}/output/{name}" for name in OUTPUTS}
        nodes.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(CONFIG / "anomaly.rviz")],
                remappings=list(topics.items()) if prefix or camera else [],
                additional_env=profile,
            )
        )
    return nodes


def input_remappings(given: dict[str, str], cameras: list[str]) -> dict[str, str]:
    """Where the node's inputs come from; a camera's calibration is by custom beside its images."""
    image_topic, camera_info_topic = given["image_topic"], given["camera_info_topic"]
    if image_topic and not camera_info_topic:
        folder, slash, _ = image_topic.rpartition("/")
        camera_info_topic = f"{folder}{slash}camera_info"
    # Both transports, as which of them the node subscribes to may be told by params_file alone.
    topics = {
        "image": image_topic,
        "image/compressed": image_topic and f"{image_topic}/compressed",
        "camera_info": camera_info_topic,
    }
    named = [topic for topic in (image_topic, camera_info_topic) if topic]
    if len(cameras) > 1 and any("{camera}" not in topic for topic in named):
        raise ValueError(f"topics of several cameras must hold {{camera}} for the name, got {', '.join(named)}")
    if not cameras and any("{camera}" in topic for topic in named):
        raise ValueError(
            f"{{camera}} in a topic stands for the names in the argument cameras, got {', '.join(named)} without it: "
            "give cameras:=front,left,… here, also where params_file names them"
        )
    return {
        f"~/{camera}/input/{name}" if camera else f"~/input/{name}": topic.replace("{camera}", camera)
        for camera in cameras or [""]
        for name, topic in topics.items()
        if topic
    }


def is_true(name: str, given: dict[str, str]) -> bool:
    text = given[name].lower()
    if text not in ("true", "false", "1", "0"):
        raise ValueError(f"{name} must be true or false, got {given[name]!r}")
    return text in ("true", "1")
