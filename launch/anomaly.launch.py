"""Start the anomaly node and, where asked for, rviz2. Installs and downloads nothing."""

import os
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from eomt_ext_ros.dds_profile import profile_environment
from launch import LaunchContext, LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / "config"
NODE = "eomt_ext"
OUTPUTS = ("probability", "mask", "overlay", "heatmap", "camera_info")
AS_IN_FILE = "; empty: as in params_file, else the node's default"

# name, default, description. Defaults of parameters are kept in one place, which is not here.
ARGUMENTS = (
    ("namespace", "", "namespace of the node"),
    ("params_file", str(CONFIG / "anomaly.yaml"), "YAML file with the node's parameters"),
    ("use_sim_time", "", "true or false" + AS_IN_FILE),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("autostart", "", "true or false: configure and activate at start" + AS_IN_FILE),
    ("image_topic", "", "camera images (sensor_msgs/Image); empty: ~/input/image"),
    ("camera_info_topic", "", "calibration of the camera; empty: camera_info beside image_topic"),
    ("checkpoint", "", "file, folder or hf://owner/name of the model" + AS_IN_FILE),
    ("device", "", "auto, cpu, cuda or cuda:N" + AS_IN_FILE),
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
    additional_env = profile_environment(os.environ, CONFIG / "fastdds.xml")
    parameters = {name: ParameterValue(given[name], value_type=str) for name in ("checkpoint", "device") if given[name]}
    parameters.update({name: is_true(name, given) for name in ("use_sim_time", "autostart") if given[name]})
    nodes = [
        Node(
            package="eomt_ext_ros",
            executable="anomaly_node",
            name=NODE,
            namespace=given["namespace"],
            parameters=[given["params_file"], *([parameters] if parameters else [])],
            remappings=list(input_remappings(given["image_topic"], given["camera_info_topic"]).items()),
            arguments=["--ros-args", "--log-level", given["log_level"]],
            additional_env=additional_env,
            output="screen",
        )
    ]
    if is_true("rviz", given):
        prefix = "/" + given["namespace"].strip("/") if given["namespace"].strip("/") else ""
        topics = [f"/{NODE}/output/{name}" for name in OUTPUTS]
        nodes.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(CONFIG / "anomaly.rviz")],
                remappings=[(topic, prefix + topic) for topic in topics] if prefix else [],
                additional_env=additional_env,
            )
        )
    return nodes


def input_remappings(image_topic: str, camera_info_topic: str) -> dict[str, str]:
    """Where the node's inputs come from; a camera's calibration is by custom beside its images."""
    if image_topic and not camera_info_topic:
        folder, slash, _ = image_topic.rpartition("/")
        camera_info_topic = f"{folder}{slash}camera_info"
    topics = {"~/input/image": image_topic, "~/input/camera_info": camera_info_topic}
    return {name: topic for name, topic in topics.items() if topic}


def is_true(name: str, given: dict[str, str]) -> bool:
    text = given[name].lower()
    if text not in ("true", "false", "1", "0"):
        raise ValueError(f"{name} must be true or false, got {given[name]!r}")
    return text in ("true", "1")
