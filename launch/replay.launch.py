"""Play a bag through the live node under sim time, and record what it publishes."""

import asyncio
import os
import signal
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueCoroutine,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.events.process import ProcessExited, SignalProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from eomt_ext_ros.outputs.registry import RECORDED
from eomt_ext_ros.process.dds_profile import profile_environment
from eomt_ext_ros.process.launch_arguments import full_name, number, output_topics, outputs, words
from launch import Event, EventHandler, LaunchContext, LaunchDescription

ANOMALY_LAUNCH = Path(__file__).resolve().parent / "anomaly.launch.py"
CONFIG = Path(__file__).resolve().parents[1] / "config"
# The distributions whose `ros2 bag record` takes topics by position; later ones want --topics (rosbag2 #1632, #2328).
TOPICS_BY_POSITION = ("humble", "iron", "jazzy")
POLL_S = 0.1
SETTLE_S = 5.0  # from the last image to the end of the recording
INTERRUPTED = (0, signal.SIGINT, -signal.SIGINT)  # exit codes of an interrupted recorder; the second is that of `ros2`

# Arguments of this file: name, default, description; those of anomaly.launch.py are taken too. A default of None must
# be given.
ARGUMENTS = (
    ("bag", None, "bag to play"),
    ("image_topic", None, "camera images in the bag; of several cameras, named by cameras, with {camera}"),
    ("record_to", "", "folder of the new bag with the outputs, which must not exist yet; empty: <bag>_anomaly"),
    ("record", ",".join(RECORDED), "outputs to record; the node computes no other"),
    ("rate", "1.0", "speed; the node processes the newest image only, so slow down to have all of them processed"),
    ("delay", "2.0", "seconds from the start of the player to its first image, in which it is found by the others"),
    ("start", "0.0", "seconds into the bag to start at"),
)


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, description=text, **({} if default is None else {"default_value": default}))
        for name, default, text in ARGUMENTS
    ]
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(ANOMALY_LAUNCH)),
        launch_arguments=[("use_sim_time", "true"), ("autostart", "false")],
    )
    # The group keeps these two from whoever includes this file. What is refused is refused before anything starts, as
    # launch leaves behind a process that it is about to start.
    check, rest = OpaqueFunction(function=commands_checked), OpaqueFunction(function=start)
    return LaunchDescription([*arguments, check, GroupAction([node]), rest])


def commands_checked(context: LaunchContext) -> None:
    commands(context)


def commands(context: LaunchContext) -> tuple[str, list[str], list[str]]:
    """The node's full name, and the command lines of player and recorder."""
    given = {name: LaunchConfiguration(name).perform(context) or default for name, default, _ in ARGUMENTS}
    namespace, cameras = (LaunchConfiguration(name, default="").perform(context) for name in ("namespace", "cameras"))
    name = full_name(context.launch_configurations.get("ros_namespace", ""), namespace)
    return name, play_command(given), record_command(given, name, words(cameras))


def start(context: LaunchContext) -> list:
    """What stands beside the node, decided when the arguments have their values."""
    profile = profile_environment(os.environ, CONFIG / "fastdds.xml")
    name, *lines = commands(context)
    player, recorder = (
        ExecuteProcess(cmd=line, name=role, additional_env=profile, output="screen")
        for role, line in zip(("player", "recorder"), lines, strict=True)
    )
    active = Event()
    # Not by the end of the launch, which kills what takes longer than some seconds to write its last messages.
    stop = SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(recorder))

    def is_needed(action: ExecuteProcess) -> bool:
        return action in (player, recorder) or (isinstance(action, Node) and action.node_name == name)

    def on_exit(event: ProcessExited, context: LaunchContext) -> TimerAction | EmitEvent | None:
        if context.is_shutdown:
            return None
        if event.action is player and event.returncode == 0:
            return TimerAction(period=SETTLE_S, actions=[EmitEvent(event=stop)])
        if event.action is recorder and player.return_code == 0 and event.returncode in INTERRUPTED:
            return EmitEvent(event=Shutdown(reason="the bag has been played"))
        # What is raised here ends the launch, and gives it an exit code other than 0.
        raise RuntimeError(f"replay failed: {event.process_name} ended with exit code {event.returncode}")

    return [
        recorder,
        RegisterEventHandler(EventHandler(matcher=lambda event: event is active, entities=[player])),
        RegisterEventHandler(OnProcessExit(target_action=is_needed, on_exit=on_exit)),
        OpaqueCoroutine(coroutine=activate, args=[name, active]),
    ]


async def activate(context: LaunchContext, name: str, active: Event) -> None:
    """Configure and activate the node, however long its model takes to load, and emit an event when it is active.

    Uses services, since messages of transitions are lost before the node is discovered.
    """
    client = get_ros_node(context).create_client(ChangeState, f"{name}/change_state")
    try:
        for step in ("configure", "activate"):
            while not client.service_is_ready():
                await asyncio.sleep(POLL_S)
            reply = client.call_async(ChangeState.Request(transition=Transition(label=step)))
            while not reply.done():
                await asyncio.sleep(POLL_S)
            if not reply.result().success:
                raise RuntimeError(f"replay failed: {name} did not {step}; see its log")
    except asyncio.CancelledError:  # the launch ends, which a coroutine that is cancelled would break off
        return
    context.emit_event_sync(active)


def play_command(given: dict) -> list[str]:
    if not given["bag"] or not Path(given["bag"]).exists():
        raise ValueError(f"bag must be one that exists, got {given['bag']}")
    options = ["--clock", "--rate", str(number("rate", given["rate"], 0.001))]
    # The player takes no 0 for its delay.
    for option, name in (("--delay", "delay"), ("--start-offset", "start")):
        if number(name, given[name], 0.0):
            options += [option, given[name]]
    return ["ros2", "bag", "play", given["bag"], *options]


def record_command(given: dict, node: str, cameras: list[str]) -> list[str]:
    topics = output_topics(node, cameras, outputs("record", given["record"]))
    folder = given["record_to"] or given["bag"].rstrip("/") + "_anomaly"
    if Path(folder).exists():
        raise ValueError(f"record_to must be a folder that does not exist yet, {folder} does")
    option = [] if os.environ.get("ROS_DISTRO") in TOPICS_BY_POSITION else ["--topics"]
    return ["ros2", "bag", "record", "--use-sim-time", "--output", folder, *option, *topics]
