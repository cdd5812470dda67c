"""The launch files under the real launch and launch_ros, which come with a ROS 2 distribution; skipped without them.

Executables are found in a prefix of the test's own: placeholders that end at once, if only the command lines matter, or
the real node.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

launch = pytest.importorskip("launch")
pytest.importorskip("launch_ros")
pytest.importorskip("launch_xml")
pytest.importorskip("launch_yaml")
if not hasattr(launch, "LaunchService"):
    pytest.skip("this 'launch' is another package", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
ANOMALY, REPLAY = (ROOT / "launch" / f"{name}.launch.py" for name in ("anomaly", "replay"))
DEFAULTS = str(ROOT / "config" / "anomaly.yaml")
SERVICE = Path(__file__).with_name("launch_service.py")
TIMEOUT_S = 300  # the real node imports torch, and the machine may be busy

PLACEHOLDER = "#!/bin/sh\nexec sleep 1\n"
NODE = f"#!{sys.executable}\nimport sys\nfrom eomt_ext_ros.node import main\nsys.exit(main())\n"
# In place of `ros2 bag`: the recorder goes on until it is interrupted, the player ends with a code.
BAG = """#!/bin/sh
echo "$2" >> "$CALLS"
case "$2" in
play) exit "${PLAYER_CODE:-0}" ;;
record) trap "exit ${RECORDER_CODE:-0}" INT; while :; do sleep 0.1; done ;;
esac
"""

HEADER = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription, SetLaunchConfiguration, DeclareLaunchArgument
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace, SetParameter
def include(path, **arguments):
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=list(arguments.items()))
"""
GROUP = """GroupAction([PushRosNamespace("car"), SetParameter("device", "cpu"), SetParameter("threshold", 0.25),
                        include(ANOMALY, namespace="front", image_topic="image", rviz="true")])"""
TWICE = """include(ANOMALY, namespace="front", image_topic="/front/image", checkpoint="one.onnx", threshold="0.5"),
           include(ANOMALY, namespace="rear", image_topic="/rear/image/compressed")"""
# What a file in Python includes, and what it declares.
PARENTS = {
    "alone": "include(ANOMALY)",
    "all arguments": """include(ANOMALY, namespace="/car/", use_sim_time="1", log_level="debug", autostart="false",
        cameras="on,off", image_topic="/{camera}/image_raw", image_transport="compressed", checkpoint="42", score="rba",
        threshold="1", outputs="mask,overlay", device="cuda:1", require_cuda="true", rviz="true", respawn="false")""",
    "declared as empty": """*(DeclareLaunchArgument(name, default_value="") for name in ("rviz", "params_file",
        "log_level", "respawn", "device")), include(ANOMALY)""",
    "inherited": """DeclareLaunchArgument("device", default_value="cpu"),
        SetLaunchConfiguration("score", "energy"), include(ANOMALY)""",
    "group": GROUP,
    "nested groups": f'GroupAction([PushRosNamespace("fleet"), {GROUP}]), include(ANOMALY)',
    "twice": TWICE,
    "replay": "include(REPLAY, bag=BAG, image_topic='/camera/image_raw')",
    "replay in a group": """GroupAction([PushRosNamespace("/car"), include(REPLAY, bag=BAG, namespace="test",
        cameras="front,rear", image_topic="/{camera}/image", record="mask")])""",
    "replay of declared as empty": """*(DeclareLaunchArgument(name, default_value="") for name in ("record_to", "rate",
        "rviz", "params_file", "namespace")), include(REPLAY, bag=BAG, image_topic="/camera/image_raw/compressed")""",
}


@pytest.fixture
def prefix(tmp_path, nothing_chosen):
    """A prefix with executables, and environment variables by which launch finds them."""
    files = {
        "lib/eomt_ext_ros/anomaly_node": PLACEHOLDER,
        "lib/rviz2/rviz2": PLACEHOLDER,
        "bin/ros2": PLACEHOLDER,
        "share/ament_index/resource_index/packages/eomt_ext_ros": "",
        "share/ament_index/resource_index/packages/rviz2": "",
    }
    for name, text in files.items():
        path = tmp_path / "prefix" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    folder = tmp_path / "prefix"
    environment = {
        "AMENT_PREFIX_PATH": os.pathsep.join([str(folder), os.environ.get("AMENT_PREFIX_PATH", "")]).rstrip(os.pathsep),
        "PATH": os.pathsep.join([f"{folder}/bin", os.environ["PATH"]]),
        "ROS_LOG_DIR": str(tmp_path / "log"),
        "CALLS": str(tmp_path / "calls"),
    }
    return SimpleNamespace(folder=folder, environment=os.environ | environment)


@pytest.fixture
def real_launch(prefix, tmp_path):
    """Run a launch file; its exit code, what it said, and the command lines of what it started."""
    out = tmp_path / "started.json"

    def launch(path, **arguments):
        given = [f"{name}:={value}" for name, value in arguments.items()]
        command = [sys.executable, str(SERVICE), str(out), str(path), *given]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=prefix.environment
        )
        try:
            text, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # which ends the processes that it started too
            text, _ = process.communicate()
            pytest.fail(f"still running after {TIMEOUT_S} s: {text}")
        started = json.loads(out.read_text()) if out.exists() else []
        return SimpleNamespace(code=process.returncode, text=text, started=started)

    return launch


@pytest.fixture
def write_parent(tmp_path):
    """Write a launch file that includes those of the package."""
    bag = tmp_path / "drive"
    bag.mkdir()

    def write(entities):
        path = tmp_path / "parent.launch.py"
        path.write_text(
            f"{HEADER}\nANOMALY, REPLAY, BAG = {str(ANOMALY)!r}, {str(REPLAY)!r}, {str(bag)!r}\n"
            f"def generate_launch_description():\n    return LaunchDescription([{entities}])\n"
        )
        return path

    return write


def node_line(*rest, namespace="/", level="info"):
    return [
        *("eomt_ext_ros/anomaly_node", "--ros-args", "--log-level", level, "--ros-args"),
        *("-r", "__node:=eomt_ext", "-r", f"__ns:={namespace}", *rest),
    ]


def remapped(**topics):
    rules = (f"~/input/{name}:={topic}" for name, topic in topics.items())
    return [part for rule in rules for part in ("-r", rule)]


def in_order(started):
    return sorted(json.dumps(line, sort_keys=True) for line in started)


@pytest.mark.parametrize("parent", PARENTS)
def test_the_stand_in_starts_what_the_real_launch_does(parent, real_launch, write_parent, request):
    path = write_parent(PARENTS[parent])
    real = real_launch(path)
    stand_in = request.getfixturevalue("launch_stand_in")
    mine = [process.cmd for process in stand_in.run(path).processes]
    assert real.started
    assert in_order(real.started) == in_order(mine), real.text


def test_with_the_required_arguments_alone_each_file_starts(real_launch, tmp_path):
    assert real_launch(ANOMALY).started == [node_line("--params-file", DEFAULTS)]
    bag = tmp_path / "drive"
    bag.mkdir()
    node, recorder = sorted(real_launch(REPLAY, bag=bag, image_topic="/camera/image").started)
    own = {"/eomt_ext": {"ros__parameters": {"autostart": False, "use_sim_time": True}}}
    topics = {"image": "/camera/image", "image/compressed": "/camera/image/compressed"}
    assert node == node_line(
        *("--params-file", DEFAULTS, "--params-file", own), *remapped(**topics, camera_info="/camera/camera_info")
    )
    assert recorder[:5] == ["ros2", "bag", "record", "--use-sim-time", "--output"]


(XML,) = re.findall(r"```xml\n(<launch>.*?)```", (ROOT / "docs/vehicle/node.md").read_text(encoding="utf-8"), re.DOTALL)
YAML = """launch:
- group:
  - push_ros_namespace: {namespace: car}
  - include:
      file: $(find-pkg-share eomt_ext_ros)/launch/anomaly.launch.py
      arg:
      - {name: image_topic, value: /camera/image_raw}
      - {name: checkpoint, value: /opt/models/model.safetensors}
      - {name: threshold, value: '0.6'}
"""


@pytest.mark.parametrize(("kind", "text"), [("xml", XML), ("yaml", YAML)], ids=["the guide's example in XML", "YAML"])
def test_files_of_other_formats_include_it(real_launch, prefix, tmp_path, kind, text):
    share = prefix.folder / "share" / "eomt_ext_ros"
    share.mkdir(parents=True)
    (share / "launch").symlink_to(ROOT / "launch")
    path = tmp_path / f"parent.launch.{kind}"
    path.write_text(text)
    done = real_launch(path)
    topics = {"image": "/camera/image_raw", "image/compressed": "/camera/image_raw/compressed"}
    own = {"checkpoint": "/opt/models/model.safetensors", "threshold": 0.6}
    assert done.started == [
        node_line(
            *("--params-file", DEFAULTS, "--params-file", {"/car/eomt_ext": {"ros__parameters": own}}),
            *remapped(**topics, camera_info="/camera/camera_info"),
            namespace="/car",
        )
    ], done.text


def test_a_group_gives_namespace_and_parameters(real_launch, write_parent):
    node, rviz = sorted(real_launch(write_parent(GROUP)).started)
    assert node == node_line(
        *("-p", "device:=cpu", "-p", "threshold:=0.25", "--params-file", DEFAULTS),
        *remapped(**{"image": "image", "image/compressed": "image/compressed", "camera_info": "camera_info"}),
        namespace="/car/front",
    )
    assert "/eomt_ext/output/mask:=/car/front/eomt_ext/output/mask" in rviz


def test_it_runs_twice_in_two_namespaces(real_launch, write_parent):
    front, rear = sorted(real_launch(write_parent(TWICE)).started, key=str)
    assert "__ns:=/front" in front
    assert "__ns:=/rear" in rear
    assert "~/input/image:=/rear/image" in rear
    (own,) = (part["/rear/eomt_ext"]["ros__parameters"] for part in rear if isinstance(part, dict))
    assert own.pop("image_transport") == "compressed"
    assert own == {"checkpoint": "one.onnx", "threshold": 0.5}, "as launch shares what the first include was given"


@pytest.mark.parametrize(
    ("path", "given", "rule"),
    [
        (ANOMALY, {"params_file": "/no/such.yaml"}, "params_file must be a file that exists, got /no/such.yaml"),
        (ANOMALY, {"rviz": "maybe"}, "rviz must be true or false, got 'maybe'"),
        (REPLAY, {"bag": "/no/such", "image_topic": "/image"}, "bag must be one that exists, got /no/such"),
    ],
)
def test_what_is_refused_starts_nothing_and_fails(real_launch, path, given, rule):
    done = real_launch(path, **given)
    assert (done.code, done.started) == (1, [])
    assert rule in done.text


@pytest.fixture
def with_node(prefix):
    """The real node, and stand-ins for player and recorder."""
    (prefix.folder / "lib/eomt_ext_ros/anomaly_node").write_text(NODE)
    (prefix.folder / "bin/ros2").write_text(BAG)
    prefix.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return prefix


@pytest.fixture
def replayed(with_node, real_launch, tmp_path):
    """Run a replay with the real node; also what was called of `ros2 bag`, in order."""
    pytest.importorskip("rclpy")
    (tmp_path / "drive").mkdir()

    def replay(**arguments):
        done = real_launch(REPLAY, bag=tmp_path / "drive", image_topic="/camera/image", device="cpu", **arguments)
        done.calls = (tmp_path / "calls").read_text().split()
        return done

    return replay


def test_the_real_node_is_activated_before_the_bag_is_played(replayed):
    done = replayed(namespace="car", checkpoint="demo")
    assert done.calls == ["record", "play"]
    assert done.started[-1][:4] == ["ros2", "bag", "play", done.started[-1][3]]
    said = done.text.index("waiting for images on /camera/image")
    assert said < done.text.index("[player-3]")
    assert done.code == 0, done.text


@pytest.mark.parametrize(
    ("checkpoint", "codes", "why"),
    [
        ("/no/such.safetensors", {}, "replay failed: /eomt_ext did not configure; see its log"),
        ("demo", {"PLAYER_CODE": "3"}, "replay failed: player-3 ended with exit code 3"),
        ("demo", {"RECORDER_CODE": "4"}, "replay failed: recorder-2 ended with exit code 4"),
    ],
)
def test_a_replay_that_fails_has_another_exit_code_than_0(replayed, prefix, checkpoint, codes, why):
    prefix.environment.update(codes)
    done = replayed(checkpoint=checkpoint)
    assert done.code == 1
    assert why in done.text


def test_respawn_restarts_a_dead_process(prefix, tmp_path):
    out = tmp_path / "started.json"
    command = [sys.executable, str(SERVICE), str(out), str(ANOMALY), "respawn:=true"]
    process = subprocess.Popen(command, env=prefix.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and not (out.exists() and len(json.loads(out.read_text())) > 1):
            time.sleep(0.2)
        assert len(json.loads(out.read_text())) > 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_S)
