"""Play a bag through the live node under sim time, and record what it publishes."""

import os
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from eomt_ext_ros.process.dds_profile import profile_environment
from launch import LaunchContext, LaunchDescription

ANOMALY_LAUNCH = Path(__file__).resolve().parent / "anomaly.launch.py"
CONFIG = Path(__file__).resolve().parents[1] / "config"
NODE = "eomt_ext"
# The distributions whose `ros2 bag record` takes topics by position; later ones want --topics (rosbag2 #1632, #2328).
TOPICS_BY_POSITION = ("humble", "iron", "jazzy")
SETTLE_S = 5.0  # from the last image to the end of the recording

# Arguments of this file: name, default, description. A default of None must be given.
ARGUMENTS = (
    ("bag", None, "bag to play"),
    ("image_topic", None, "camera images in the bag (sensor_msgs/Image)"),
    ("record_to", "", "folder of the new bag with the outputs, which must not exist yet; empty: <bag>_anomaly"),
    ("record", "probability,mask,overlay", "outputs to record; the node computes no other"),
    ("rate", "1.0", "speed; the node answers the newest image only, so slow down what must be answered in full"),
    ("delay", "15.0", "seconds given to the node to load its model before the bag starts"),
    ("start", "0.0", "seconds into the bag to start at"),
)
# Those that the node's own launch file takes are handed on to it where they are given.
HANDED_ON = (
    "namespace",
    "params_file",
    "log_level",
    "camera_info_topic",
    "checkpoint",
    "device",
    "require_cuda",
    "rviz",
)


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, description=text, **({} if default is None else {"default_value": default}))
        for name, default, text in ARGUMENTS
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value="", description="as in anomaly.launch.py") for name in HANDED_ON
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    """The processes, decided when the arguments have their values."""
    names = [name for name, _, _ in ARGUMENTS] + list(HANDED_ON)
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    handed_on = {name: given[name] for name in HANDED_ON if given[name]}
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(ANOMALY_LAUNCH)),
        launch_arguments=[("use_sim_time", "true"), ("image_topic", given["image_topic"]), *handed_on.items()],
    )
    profile = profile_environment(os.environ, CONFIG / "fastdds.xml")
    recorder = ExecuteProcess(cmd=record_command(given), additional_env=profile, output="screen")
    player = ExecuteProcess(cmd=play_command(given), additional_env=profile, output="screen")
    end = TimerAction(period=SETTLE_S, actions=[EmitEvent(event=Shutdown(reason="the bag has been played"))])
    return [node, recorder, player, RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[end]))]


def play_command(given: dict) -> list:
    for name, least in (("rate", 0.001), ("delay", 0.0), ("start", 0.0)):
        if not float(given[name]) >= least:
            raise ValueError(f"{name} must be at least {least}, got {given[name]}")
    options = ["--clock", "--rate", given["rate"], "--delay", given["delay"]]
    if float(given["start"]):
        options += ["--start-offset", given["start"]]
    return ["ros2", "bag", "play", given["bag"], *options]


def record_command(given: dict) -> list:
    outputs = [name.strip() for name in given["record"].split(",") if name.strip()]
    if not outputs:
        raise ValueError(f"record must name at least one output, got {given['record']!r}")
    folder = given["record_to"] or given["bag"].rstrip("/") + "_anomaly"
    if Path(folder).exists():
        raise ValueError(f"record_to must be a folder that does not exist yet, {folder} does")
    prefix = "/" + given["namespace"].strip("/") if given["namespace"].strip("/") else ""
    topics = [f"{prefix}/{NODE}/output/{name}" for name in outputs]
    option = [] if os.environ.get("ROS_DISTRO") in TOPICS_BY_POSITION else ["--topics"]
    return ["ros2", "bag", "record", "--use-sim-time", "--output", folder, *option, *topics]
