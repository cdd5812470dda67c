"""The replay launch file, run against the stand-in for launch and launch_ros."""

import asyncio
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lifecycle_msgs")

ROOT = Path(__file__).resolve().parents[3]


class Replay:
    """A run of the launch file: the processes that it started so far, and what happens to them."""

    def __init__(self, stand_in, configurations):
        self.stand_in = stand_in
        self.context = stand_in.run(ROOT / "launch" / "replay.launch.py", **configurations)

    @property
    def processes(self):
        return self.context.processes

    def activate(self, *replies):
        """Let the node reply to the transitions that it is asked for; returns these."""
        asked = []

        def call_async(request):
            asked.append(request.transition.label)
            reply = SimpleNamespace(success=replies[len(asked) - 1])
            return SimpleNamespace(done=lambda: True, result=lambda: reply)

        def create_client(kind, name):
            assert name == f"{self.processes[0].node_name}/change_state"
            return SimpleNamespace(service_is_ready=lambda: True, call_async=call_async)

        self.context.ros_node = SimpleNamespace(create_client=create_client)
        (coroutine,) = self.context.coroutines
        asyncio.run(coroutine.coroutine(self.context, *coroutine.args))
        return asked

    def exit(self, process, code=0):
        process.return_code = code
        event = self.stand_in.ProcessExited(action=process, returncode=code, process_name=process.cmd[0])
        self.context.emit_event_sync(event)


@pytest.fixture
def bag(tmp_path):
    """A folder where a bag may be."""
    path = tmp_path / "drive"
    path.mkdir()
    return path


@pytest.fixture
def launched(launch_stand_in, bag):
    """A run of ``ros2 launch … name:=value``."""

    def launch(**given):
        required = {"bag": str(bag), "image_topic": "/camera/image"}
        replay = Replay(launch_stand_in, required | given)
        assert given.keys() <= {*replay.context.arguments, "ros_namespace"}
        return replay

    return launch


def test_with_the_required_arguments_alone_node_and_recorder_start(launched, bag):
    node, recorder = launched().processes
    assert node.parameters == [str(ROOT / "config" / "anomaly.yaml"), {"use_sim_time": True, "autostart": False}]
    assert ("~/input/image", "/camera/image") in node.remappings
    assert recorder.cmd[:6] == ["ros2", "bag", "record", "--use-sim-time", "--output", f"{bag}_anomaly"]


def test_node_arguments_are_passed_on(launched):
    replay = launched(checkpoint="my.safetensors", device="cpu", image_topic="/camera/image/compressed", autostart="1")
    node = replay.processes[0]
    assert node.parameters[1] == {
        "checkpoint": "my.safetensors",
        "device": "cpu",
        "image_transport": "compressed",
        "use_sim_time": True,
        "autostart": False,
    }
    assert "use_sim_time" not in replay.context.launch_configurations
    assert replay.context.launch_configurations["autostart"] == "1", "of whoever includes this file"


def test_the_bag_is_played_when_the_node_is_active(launched, bag):
    replay = launched(rate="0.5", start="3.5")
    assert len(replay.processes) == 2
    assert replay.activate(True, True) == ["configure", "activate"]
    *_, player = replay.processes
    assert player.cmd[:4] == ["ros2", "bag", "play", str(bag)]
    assert player.cmd[4:] == ["--clock", "--rate", "0.5", "--delay", "2.0", "--start-offset", "3.5"]


def test_player_gets_no_zero_delay(launched):
    replay = launched(delay="0")
    replay.activate(True, True)
    assert "--delay" not in replay.processes[-1].cmd


@pytest.mark.parametrize(("replies", "step"), [((False,), "configure"), ((True, False), "activate")])
def test_a_node_that_does_not_become_active_ends_the_replay(launched, replies, step):
    replay = launched(namespace="car")
    with pytest.raises(RuntimeError, match=f"replay failed: /car/eomt_ext did not {step}; see its log"):
        replay.activate(*replies)
    assert len(replay.processes) == 2, "nothing is played"


def test_a_launch_that_ends_meanwhile_cancels_nothing_else(launched):
    replay = launched()
    client = SimpleNamespace(service_is_ready=lambda: False)
    replay.context.ros_node = SimpleNamespace(create_client=lambda kind, name: client)
    (coroutine,) = replay.context.coroutines

    async def cancelled():
        task = asyncio.create_task(coroutine.coroutine(replay.context, *coroutine.args))
        await asyncio.sleep(0)
        task.cancel()
        await task
        return task.cancelled()

    assert asyncio.run(cancelled()) is False
    assert len(replay.processes) == 2


@pytest.mark.parametrize(("distribution", "option"), [("jazzy", []), ("kilted", ["--topics"]), (None, ["--topics"])])
def test_outputs_are_recorded_in_the_nodes_namespace(launched, bag, monkeypatch, distribution, option):
    if distribution:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    _, recorder = launched(namespace="/car/", record="probability, mask", record_to="/results/one").processes
    assert recorder.cmd == [
        *("ros2", "bag", "record", "--use-sim-time", "--output", "/results/one", *option),
        *("/car/eomt_ext/output/probability", "/car/eomt_ext/output/mask"),
    ]
    assert launched(bag=f"{bag}/").processes[1].cmd[5] == f"{bag}_anomaly"


def test_outputs_are_recorded_in_the_namespace_of_the_group(launched):
    node, recorder = launched(ros_namespace="/fleet", namespace="car", record="mask").processes
    assert node.node_name == "/fleet/car/eomt_ext"
    assert recorder.cmd[-1] == "/fleet/car/eomt_ext/output/mask"


def test_outputs_of_several_cameras_are_recorded(launched):
    node, recorder = launched(
        cameras="front,rear", image_topic="/{camera}/image", image_transport="compressed", record="mask,overlay"
    ).processes
    assert node.parameters[1]["cameras"] == ["front", "rear"]
    assert node.parameters[1]["image_transport"] == "compressed"
    assert recorder.cmd[-4:] == [
        "/eomt_ext/front/output/mask",
        "/eomt_ext/front/output/overlay",
        "/eomt_ext/rear/output/mask",
        "/eomt_ext/rear/output/overlay",
    ]


def test_player_and_recorder_carry_large_images_too(launched, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    replay = launched()
    replay.activate(True, True)
    _, recorder, player = replay.processes
    profile = {"FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml")}
    assert recorder.additional_env == player.additional_env == profile


@pytest.mark.parametrize("code", [0, signal.SIGINT, -signal.SIGINT])
def test_end_of_bag_ends_recording_then_launch(launched, code):
    replay = launched()
    replay.activate(True, True)
    _, recorder, player = replay.processes
    replay.exit(player)
    (timer,) = replay.context.timers
    replay.stand_in.visit(timer.actions, replay.context)
    stop = replay.context.emitted[-1]
    assert stop.signal_number == signal.SIGINT
    assert stop.process_matcher(recorder)
    assert not stop.process_matcher(player)
    replay.exit(recorder, code)
    assert type(replay.context.emitted[-1]).__name__ == "Shutdown"


@pytest.mark.parametrize(("which", "code"), [(0, 0), (0, -11), (1, 0), (1, 2), (2, 1)])
def test_failing_or_early_process_fails_the_replay(launched, which, code):
    replay = launched()
    replay.activate(True, True)
    with pytest.raises(RuntimeError, match=f"replay failed: .* ended with exit code {code}"):
        replay.exit(replay.processes[which], code)


def test_a_recorder_that_fails_at_its_end_fails_the_replay(launched):
    replay = launched()
    replay.activate(True, True)
    _, recorder, player = replay.processes
    replay.exit(player)
    with pytest.raises(RuntimeError, match=r"replay failed: .* ended with exit code 1"):
        replay.exit(recorder, 1)


def test_processes_ending_with_the_launch_do_not_fail_it(launched, launch_stand_in):
    replay = launched(rviz="true")
    node, rviz, _ = replay.processes
    replay.exit(rviz, 1)
    replay.exit(launch_stand_in.Node(cmd=["another"], node_name="/front/eomt_ext"), 1)
    replay.context.is_shutdown = True
    replay.exit(node, -2)
    assert not replay.context.timers


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"rate": "0"}, "rate must be at least"),
        ({"rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"delay": "-1"}, "delay must be at least"),
        ({"record": " , "}, "record must name at least one output"),
        ({"record": "mask,pizza"}, "record must be some of probability, .*, got pizza"),
        ({"record_to": str(ROOT)}, "does not exist yet"),
        ({"bag": "/no/such"}, "bag must be one that exists, got /no/such"),
        ({"bag": ""}, "bag must be one that exists"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(launched, launch_stand_in, monkeypatch, given, rule):
    started = []
    monkeypatch.setattr(launch_stand_in.Node, "execute", lambda self, context: started.append(self))
    with pytest.raises(ValueError, match=rule):
        launched(**given)
    assert not started


def test_defaults_record_what_the_node_publishes(launched):
    _, recorder = launched().processes
    assert recorder.cmd[-3:] == [f"/eomt_ext/output/{name}" for name in ("probability", "mask", "overlay")]
