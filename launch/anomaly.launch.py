"""Start the anomaly node and, if asked for, rviz2. Installs and downloads nothing."""

import os
from pathlib import Path
from typing import List  # noqa: UP035 - the one form that launch takes

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from eomt_ext_ros.outputs.registry import OUTPUT_NAMES
from eomt_ext_ros.process.dds_profile import profile_environment, publication_environment
from eomt_ext_ros.process.launch_arguments import (
    COMPRESSED,
    NODE,
    full_name,
    input_remappings,
    number,
    output_topics,
    outputs,
    truth,
    words,
)
from launch import LaunchContext, LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / "config"
RESPAWN_DELAY_S = 2.0
AS_IN_FILE = "; empty: as in params_file, else the node's default"

# name, default, description. Defaults of parameters are kept in one place, which is not here.
ARGUMENTS = (
    ("namespace", "", "namespace of the node"),
    ("params_file", str(CONFIG / "anomaly.yaml"), "YAML file with the node's parameters"),
    ("use_sim_time", "", "true or false" + AS_IN_FILE),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("autostart", "", "true or false: configure and activate at start" + AS_IN_FILE),
    ("respawn", "false", "true or false: restart the process when it ends"),
    ("cameras", "", "names of several cameras, separated by commas" + AS_IN_FILE),
    ("image_topic", "", "camera images; of several cameras, named by cameras, with {camera}; empty: ~/input/image"),
    ("camera_info_topic", "", "calibration of the camera, as image_topic; empty: camera_info beside image_topic"),
    ("image_transport", "", "raw or compressed; empty: compressed if image_topic ends so, else as in params_file"),
    ("checkpoint", "", "file or folder of the model, or demo" + AS_IN_FILE),
    ("score", "", "what the anomaly score is: head, or a baseline" + AS_IN_FILE),
    ("threshold", "", "probability above which a pixel belongs to the mask" + AS_IN_FILE),
    ("outputs", "", "outputs that may be computed, separated by commas" + AS_IN_FILE),
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
    # launch shares configurations with included files: an argument declared empty there is not the default here.
    given = {name: LaunchConfiguration(name).perform(context) or default for name, default, _ in ARGUMENTS}
    if not Path(given["params_file"]).is_file():
        raise ValueError(f"params_file must be a file that exists, got {given['params_file']}")
    profile = profile_environment(os.environ, CONFIG / "fastdds.xml")
    cameras = words(given["cameras"])
    parameters = parameters_of(given)
    remappings = input_remappings(given["image_topic"], given["camera_info_topic"], cameras)
    nodes = [
        Node(
            package="eomt_ext_ros",
            executable="anomaly_node",
            name=NODE,
            namespace=given["namespace"],
            parameters=[given["params_file"], *([parameters] if parameters else [])],
            remappings=list(remappings.items()),
            arguments=["--ros-args", "--log-level", given["log_level"]],
            additional_env=profile | publication_environment(os.environ),
            respawn=truth("respawn", given["respawn"]),
            respawn_delay=RESPAWN_DELAY_S,
            output="screen",
        )
    ]
    if truth("rviz", given["rviz"]):
        shown = output_topics(f"/{NODE}", [], OUTPUT_NAMES)
        name = full_name(context.launch_configurations.get("ros_namespace", ""), given["namespace"])
        topics = output_topics(name, cameras[:1], OUTPUT_NAMES)
        nodes.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(CONFIG / "anomaly.rviz")],
                remappings=[] if topics == shown else list(zip(shown, topics, strict=True)),
                additional_env=profile,
            )
        )
    return nodes


def parameters_of(given: dict[str, str]) -> dict:
    """The parameters that the arguments set: what is left empty overrides nothing."""
    if not given["image_transport"] and given["image_topic"].endswith(COMPRESSED):
        given = given | {"image_transport": "compressed"}
    text = ("checkpoint", "device", "image_transport", "score")
    switches = ("use_sim_time", "autostart", "require_cuda")
    parameters = {name: ParameterValue(given[name], value_type=str) for name in text if given[name]}
    parameters |= {name: truth(name, given[name]) for name in switches if given[name]}
    if given["threshold"]:
        parameters["threshold"] = number("threshold", given["threshold"])
    if given["cameras"]:
        parameters["cameras"] = ParameterValue(words(given["cameras"]), value_type=List[str])  # noqa: UP006
    if given["outputs"]:
        parameters["outputs"] = ParameterValue(outputs("outputs", given["outputs"]), value_type=List[str])  # noqa: UP006
    return parameters
