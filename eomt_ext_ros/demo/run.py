"""The processes of the demonstration: start camera and node, record until all is processed, write the results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eomt_ext_core.errors import EomtExtError
from eomt_ext_core.exits import describe_exit
from eomt_ext_ros.bags.messages import IMAGE
from eomt_ext_ros.demo import camera, recorder
from eomt_ext_ros.demo.flicker import flicker
from eomt_ext_ros.outputs.registry import RECORDED, output_topic
from eomt_ext_ros.process.dds_profile import transports_chosen

NODE = "/eomt_ext"
OUTPUTS = {name: output_topic(name, node=NODE) for name in RECORDED}
POINTS_TOPIC = output_topic("obstacle_points", node=NODE)
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
START_TIMEOUT_S = 120.0
QUIET_S = 2.0


class DemoError(EomtExtError):
    """A process of the demonstration failed."""


def run_demo(
    console: Console,
    camera_arguments: list[str],
    frames: int,
    rate_hz: float,
    checkpoint: str,
    output: Path,
    *,
    is_drawn: bool,
) -> dict[str, Any]:
    """Start the processes, record until all frames are processed, and write the results.

    Of drawn scenes the camera's calibration and height are known, and obstacles are located on the ground.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    environment = _environment()
    os.environ.update(environment)
    recording = recorder.Recording()
    with tempfile.TemporaryFile("w+") as camera_log, (output / "node.log").open("w") as node_log:
        camera_process = _start("eomt_ext_ros.demo.camera", camera_arguments, camera_log, environment)
        remap = f"{NODE}/input/image:={camera.IMAGE_TOPIC}"
        node_arguments = ["--ros-args", "-r", remap, "-p", f"checkpoint:={checkpoint}"]
        topics = dict.fromkeys([camera.IMAGE_TOPIC, camera.LABEL_TOPIC, *OUTPUTS.values()], IMAGE)
        if is_drawn:
            node_arguments += ["-r", f"{NODE}/input/camera_info:={camera.INFO_TOPIC}"]
            node_arguments += ["-p", f"ground.height_m:={camera.HEIGHT_M}"]
            topics |= {
                POINTS_TOPIC: recorder.POINTS,
                camera.TRUTH_TOPIC: recorder.POINTS,
                camera.INFO_TOPIC: CAMERA_INFO,
            }
        node_process = _start("eomt_ext_ros.node", node_arguments, node_log, environment)
        rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
        node = rclpy.create_node("demo_recorder")
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            with console.status("drawing scenes and loading the model"):
                _wait_until_active(node, executor, node_process, output / "node.log")
            recorder.subscribe(node, recording, topics)
            _watch(console, executor, recording, camera_process, node_process, frames)
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown()
            for process in (camera_process, node_process):
                _end(process)
        assert camera_process.stdout is not None
        facts: dict[str, Any] = {}
        for line in camera_process.stdout:
            facts.update(json.loads(line))
        if camera_process.returncode:
            camera_log.seek(0)
            raise DemoError(f"the camera process failed: {camera_log.read().strip()}")

    with console.status("writing overlay.mp4, the bag and summary.json"):
        latencies = recording.latencies_ms(OUTPUTS["probability"])
        summary = {
            "checkpoint": checkpoint,
            "frames_published": facts["published"],
            "frames_received": recording.count(OUTPUTS["probability"]),
            "problems": facts.get("problems", []),
            "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)), 1) for q in (50, 99)}
            if latencies
            else {},
            "flicker": flicker(recorder.masked_frames(recording, OUTPUTS["probability"], OUTPUTS["mask"])),
            **recorder.measure(recording, OUTPUTS["probability"], camera.LABEL_TOPIC),
            **recorder.measure_ranges(recording, POINTS_TOPIC, camera.TRUTH_TOPIC),
        }
        recorder.write_video(recording, OUTPUTS["overlay"], output / "overlay.mp4", rate_hz)
        recorder.write_bag(recording, output / "bag")
        recorder.write_summary(output / "summary.json", summary)
    return summary


def _wait_until_active(node: Any, executor: Any, process: subprocess.Popen[str], log: Path) -> None:
    """Wait until the node has finished its transitions; raise ``DemoError`` if it is not active then."""
    from lifecycle_msgs.msg import State
    from lifecycle_msgs.srv import GetState

    client = node.create_client(GetState, f"{NODE}/get_state")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not client.wait_for_service(timeout_sec=0.2):
        _check_alive(process, log)
        if time.monotonic() > deadline:
            raise DemoError(f"the node did not start within {START_TIMEOUT_S:.0f} s; see its log, {log}")
    response = client.call_async(GetState.Request())
    executor.spin_until_future_complete(response, timeout_sec=max(0.0, deadline - time.monotonic()))
    state = response.result().current_state if response.done() else None
    if state is None or state.id != State.PRIMARY_STATE_ACTIVE:
        reasons = [line for line in log.read_text().splitlines() if "ERROR" in line]
        label = state.label if state else "silent"
        raise DemoError(f"the node is {label}, not active: {reasons[-1] if reasons else f'see {log}'}")


def _watch(
    console: Console,
    executor: Any,
    recording: recorder.Recording,
    camera_process: subprocess.Popen[str],
    node_process: subprocess.Popen[str],
    frames: int,
) -> None:
    """Record and show progress, until the camera has ended and the node has published nothing for a while."""
    with _progress(console) as progress:
        published = progress.add_task("published", total=frames or None)
        processed = progress.add_task("processed", total=frames or None)
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:
            before = recording.count(OUTPUTS["probability"])
            executor.spin_once(timeout_sec=0.1)
            if recording.count(OUTPUTS["probability"]) > before or camera_process.poll() is None:
                quiet_since = time.monotonic()
            progress.update(published, completed=recording.count(camera.IMAGE_TOPIC))
            progress.update(processed, completed=recording.count(OUTPUTS["probability"]))
            _check_alive(node_process, None)


def _check_alive(process: subprocess.Popen[str], log: Path | None) -> None:
    if process.poll() is not None:
        raise DemoError(f"the node {describe_exit(process.returncode)}; see {log or 'node.log'}")


def _environment() -> dict[str, str]:
    """Choose shared memory for large images and a domain of our own, unless the user has chosen."""
    environment = dict(os.environ)
    if not transports_chosen(environment):
        environment["FASTDDS_BUILTIN_TRANSPORTS"] = "LARGE_DATA"
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    return environment


def _start(module: str, arguments: list[str], log: IO[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Run a module in a new process, with a pipe for its output; its log goes to ``log``."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
