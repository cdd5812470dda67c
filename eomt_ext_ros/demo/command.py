"""``eomt-ext demo``: run camera, node and recorder together, and summarise the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from eomt_ext_core.commandline.output import print_result
from eomt_ext_core.commands import options
from eomt_ext_core.commands.problems import EXIT_INCOMPLETE, print_problems
from eomt_ext_core.errors import EomtExtError
from eomt_ext_core.exits import describe_exit
from eomt_ext_core.files import output_folder, printable
from eomt_ext_ros.bags.messages import IMAGE
from eomt_ext_ros.demo import camera, recorder
from eomt_ext_ros.demo.flicker import flicker
from eomt_ext_ros.outputs.registry import RECORDED, output_topic
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.process.dds_profile import transports_chosen

NODE = "/eomt_ext"
OUTPUTS = {name: output_topic(name, node=NODE) for name in RECORDED}
POINTS_TOPIC = output_topic("obstacle_points", node=NODE)
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
START_TIMEOUT_S = 120.0
QUIET_S = 2.0


class DemoError(EomtExtError):
    """A process of the demonstration failed."""


def demo(
    video: Annotated[Path | None, typer.Option(help="publish the frames of a video instead of drawn scenes")] = None,
    images: Annotated[Path | None, typer.Option(help="publish the images of a folder, one second each")] = None,
    device: Annotated[int | None, typer.Option("--camera", help="publish the camera with this number")] = None,
    frames: Annotated[int, typer.Option(help="most frames to publish; 0 for a whole video or folder", min=0)] = 150,
    rate_hz: Annotated[float, typer.Option(help="frames per second", min=0.1)] = 15.0,
    seed: Annotated[int, typer.Option(help="seed of the drawn scenes", min=0)] = 4_000_012,
    checkpoint: Annotated[str, typer.Option(help="model of the node")] = NodeConfig.checkpoint,
    output: options.Output = Path("demo_output"),
    overwrite: options.Overwrite = False,
) -> None:
    """Run the real node on a road and record what it sees.

    Exit status: 0: complete; 1: no frame was processed; 3: an image, or the end of the video, could not be read.
    """
    if sum(source is not None for source in (video, images, device)) > 1:
        raise typer.BadParameter("choose one of --video, --images and --camera")
    if frames == 0 and video is None and images is None:
        raise typer.BadParameter("--frames must be at least 1 for drawn scenes and cameras")
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise DemoError(f"demo needs ROS 2: source a distribution, or install the extra 'ros' ({error})") from error

    console = Console()
    source = ["--video", str(video)] if video else ["--images", str(images)] if images else []
    source += ["--camera", str(device)] if device is not None else []
    arguments = [*source, "--frames", str(frames), "--rate-hz", str(rate_hz), "--seed", str(seed), "--listeners", "2"]
    is_drawn = not source
    with output_folder(output, overwrite, [path for path in (video, images) if path]) as folder:
        summary = _run(console, arguments, frames, rate_hz, checkpoint, folder, is_drawn=is_drawn)
        if not summary["frames_received"]:
            log = escape(printable(folder / "node.log"))
            console.print(f"[red]The node processed no frame.[/red] See its log, {log}", soft_wrap=True)
            raise typer.Exit(1)
    print_result({"output": output, **summary})
    _print_summary(console, summary, output)
    if summary["problems"]:
        print_problems(summary["problems"])
        raise typer.Exit(EXIT_INCOMPLETE)


def _run(
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


def _print_summary(console: Console, summary: dict[str, Any], output: Path) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("frames processed", f"{summary['frames_received']} of {summary['frames_published']} published")
    if summary["latency_ms"]:
        latency = summary["latency_ms"]
        table.add_row("stamp to result", f"{latency['p50']:.0f} ms median, {latency['p99']:.0f} ms p99")
    flickering = summary["flicker"]
    table.add_row(
        "flicker",
        f"the number of obstacles changes in {flickering['changes']} of {flickering['steps']} steps, "
        f"of confirmed ones in {flickering['changes_confirmed']}",
    )
    if "auprc" in summary:
        ratio = summary["auprc"] / summary["anomaly_fraction"]
        table.add_row("AuPRC", f"{summary['auprc']:.3f} ({ratio:.0f} times the fraction of anomalous pixels)")
        table.add_row("FPR95", f"{summary['fpr95']:.3f}")
    if "range_error" in summary:
        table.add_row("range error", f"{summary['range_error']:.1%} median, of {summary['ranges']} obstacles located")
    console.print(table)
    video, bag, metrics = (escape(printable(output / name)) for name in ("overlay.mp4", "bag", "summary.json"))
    console.print(f"\nLook at [bold]{video}[/bold] in any browser\nbag: {bag}\nmetrics: {metrics}", soft_wrap=True)
