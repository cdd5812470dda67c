"""The replay launch file, run against a minimal stand-in for launch, and the real one where it is."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def launched(launch_stand_ins, load_launch_file):
    """What ``ros2 launch … name:=value`` would start: node, recorder, player, and what follows the player."""

    def launch(**given):
        *arguments, opaque = load_launch_file("replay").generate_launch_description().args[0]
        defaults = {argument.args[0]: getattr(argument, "default_value", None) for argument in arguments}
        settings = defaults | {"bag": "/bags/drive", "image_topic": "/camera/image"} | given
        assert settings.keys() == defaults.keys()
        return opaque.function(settings)

    return launch


def test_the_node_runs_under_sim_time_on_the_topic_of_the_bag(launched):
    node, *_ = launched(checkpoint="my.safetensors", device="cpu")
    assert Path(node.args[0].args[0]) == ROOT / "launch" / "anomaly.launch.py"
    assert dict(node.launch_arguments) == {
        "use_sim_time": "true",
        "image_topic": "/camera/image",
        "checkpoint": "my.safetensors",
        "device": "cpu",
    }


def test_the_player_gives_the_clock(launched):
    _, _, player, _ = launched(rate="0.5", start="3.5")
    assert player.cmd[:4] == ["ros2", "bag", "play", "/bags/drive"]
    assert player.cmd[4:] == ["--clock", "--rate", "0.5", "--delay", "15.0", "--start-offset", "3.5"]


@pytest.mark.parametrize(("distribution", "option"), [("jazzy", []), ("kilted", ["--topics"]), (None, ["--topics"])])
def test_the_outputs_of_the_nodes_namespace_are_recorded(launched, monkeypatch, distribution, option):
    if distribution:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    _, recorder, *_ = launched(namespace="/car/", record="probability, mask", record_to="/results/one")
    assert recorder.cmd == [
        *("ros2", "bag", "record", "--use-sim-time", "--output", "/results/one", *option),
        *("/car/eomt_ext/output/probability", "/car/eomt_ext/output/mask"),
    ]
    assert launched(bag="/bags/drive/")[1].cmd[5] == "/bags/drive_anomaly"


def test_player_and_recorder_carry_large_images_too(launched, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    _, recorder, player, _ = launched()
    profile = {"FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml")}
    assert recorder.additional_env == player.additional_env == profile


def test_the_end_of_the_bag_ends_everything(launched):
    _, _, player, handler = launched()
    (after,) = handler.args
    assert after.target_action is player
    assert type(after.on_exit[0].actions[0].event).__name__ == "Shutdown"


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"rate": "0"}, "rate must be at least"),
        ({"delay": "-1"}, "delay must be at least"),
        ({"record": " , "}, "record must name at least one output"),
        ({"record_to": str(ROOT)}, "does not exist yet"),
    ],
)
def test_what_makes_no_sense_is_refused(launched, given, rule):
    with pytest.raises(ValueError, match=rule):
        launched(**given)


def test_what_is_handed_on_and_recorded_is_known_to_the_node(launch_stand_ins, load_launch_file):
    replay, anomaly = load_launch_file("replay"), load_launch_file("anomaly")
    known = {name for name, _, _ in anomaly.ARGUMENTS}
    assert {*replay.HANDED_ON, "use_sim_time", "image_topic"} <= known
    outputs = next(default for name, default, _ in replay.ARGUMENTS if name == "record").split(",")
    assert set(outputs) <= set(anomaly.OUTPUTS)
    assert anomaly.NODE == replay.NODE


def test_the_real_launch_takes_the_description(load_launch_file):
    launch = pytest.importorskip("launch")
    if not hasattr(launch, "LaunchDescription"):
        pytest.skip("this 'launch' is another package")
    assert load_launch_file("replay").generate_launch_description().entities
