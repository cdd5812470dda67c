"""Starting the node and its cameras, and what a process holds of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image

from eomt_ext_ros.bags.messages import stamp_ns
from eomt_ext_ros.process.dds_profile import profile_environment, publication_environment

FOLDER = Path(__file__).resolve().parents[1]
END_TIMEOUT_S = 30.0
TURN_S = 0.02


def prepare_environment() -> None:
    """A DDS domain of our own, and the package's profile, for this process and those it starts."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.update(profile_environment(os.environ, FOLDER.parents[1] / "config" / "fastdds.xml"))


@contextmanager
def node_process(
    parameters: Mapping[str, Any], *, stand_in_s: float | None = None, namespace: str = "/"
) -> Iterator[subprocess.Popen[str]]:
    """The node, with its own engine or with a stand-in for it; ends with the block."""
    program = ["eomt_ext_ros.node"] if stand_in_s is None else ["vehicle.stand_in", str(stand_in_s)]
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")]
    words = [*program, "--ros-args", "-r", f"__ns:={namespace}", *given]
    with _process(words, publication_environment(os.environ)) as process:
        yield process


@contextmanager
def camera_process(
    topics: Sequence[str], rate_hz: float, seconds: float, size_hw: tuple[int, int], listeners: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """Cameras that publish when ``listeners`` have come for each topic."""
    flags = {"--rate-hz": [rate_hz], "--seconds": [seconds], "--size": size_hw, "--listeners": [listeners]}
    words = [str(word) for flag, values in flags.items() for word in (flag, *values)]
    with _process(["vehicle.cameras", "--topics", *topics, *words]) as process:
        yield process


@contextmanager
def _process(
    module_and_arguments: Sequence[str], added: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        **added,
        "PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", *module_and_arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _yaml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_yaml, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


class Holding:
    """What a process holds, read from /proc."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    @property
    def resident_mib(self) -> float:
        """Return private and shared memory, without /dev/shm, which DDS fills once and keeps."""
        fields = dict(line.split(":", 1) for line in (self._proc / "status").read_text().splitlines() if ":" in line)
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) / 1024

    @property
    def proportional_mib(self) -> float:
        """Return memory, with shared pages divided among the processes that share them."""
        lines = (self._proc / "smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    @property
    def cpu_s(self) -> float:
        """Time of the CPU that it has used."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    @property
    def threads(self) -> int:
        return len(list((self._proc / "task").iterdir()))

    @property
    def descriptors(self) -> int:
        return len(list((self._proc / "fd").iterdir()))


class Listener:
    """Notes of each image on some topics its stamp and its age when it came, both in nanoseconds."""

    def __init__(self) -> None:
        self.node = Node("listener")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.heard: dict[str, list[tuple[int, int]]] = {}

    def listen(self, topic: str, kind: type = Image, *, best_effort: bool = False) -> None:
        notes = self.heard.setdefault(topic, [])

        def note(data: bytes) -> None:
            came_ns, stamped_ns = self.node.get_clock().now().nanoseconds, stamp_ns(data)
            notes.append((stamped_ns, came_ns - stamped_ns))

        qos = qos_profile_sensor_data if best_effort else QoSProfile(depth=10)
        self.node.create_subscription(kind, topic, note, qos, raw=True)

    def turn(self) -> None:
        """Take in one message, or wait for one for a moment."""
        self.executor.spin_once(timeout_sec=TURN_S)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()
