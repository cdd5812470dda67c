"""Large camera images between processes: what arrives, how late, and what the node makes of it.

A camera process publishes photos and a video as 960×540 rgb8 (best effort, keep last 1) at a fixed rate; another
process subscribes (best effort, keep last 10: what is missing was lost on the way, not to a slow reader). Each row of
the result is one choice of Fast DDS transports, made for both processes:

    python benchmarks/node/transport.py plain /path/to/road_frames

and with the node in between, its outputs checked against what was sent:

    python benchmarks/node/transport.py node /path/to/road_frames --checkpoint demo

Environment variables of the caller go to all processes; ROS_DOMAIN_ID is set if it is not.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import rclpy
import typer
from builtin_interfaces.msg import Time
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from eomt_ext_core.images import VideoReader, is_input, kind_of, list_images, read_rgb
from eomt_ext_ros.messages.images import to_image_msg
from eomt_ext_ros.process.dds_profile import profile_environment

PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"
TRANSPORTS = {
    "default": {},
    "large_data": {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
    "profile": profile_environment({"ROS_DISTRO": os.environ.get("ROS_DISTRO", "")}, PROFILE),
}
CAMERA = "/camera/image_raw"
PROBABILITY = "/eomt_ext/output/probability"
START_TIMEOUT_S = 300.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Folder = Annotated[Path, typer.Argument(help="folder with .jpg photos and .mp4 videos")]
Frames = Annotated[int, typer.Option(help="images to send")]
Rate = Annotated[float, typer.Option(help="images a second")]
Transport = Annotated[list[str], typer.Option(help=f"any of {', '.join(TRANSPORTS)}")]


@app.command()
def plain(
    folder: Folder,
    frames: Frames = 227,
    rate_hz: Rate = 15.0,
    transport: Transport = list(TRANSPORTS),  # noqa: B006
) -> None:
    """A plain subscriber in place of the node."""
    for name in transport:
        environment = os.environ | TRANSPORTS[name] | {"ROS_DOMAIN_ID": own_domain()}
        with child("subscribe", environment) as subscriber:
            sent = run_camera(folder, frames, rate_hz, environment)
            received = report_of(subscriber)
        latencies = [late for _, late in received["outputs"]]
        middle = f"{statistics.median(latencies) * 1e3:.1f} ms" if latencies else "-"
        print(f"{name:12} sent {len(sent)}, received {len(latencies)}, median latency {middle}", flush=True)


@app.command()
def node(
    folder: Folder,
    checkpoint: Annotated[str, typer.Option(help="the node's checkpoint")] = "demo",
    frames: Frames = 227,
    rate_hz: Rate = 15.0,
    transport: Transport = ["profile"],  # noqa: B006
) -> None:
    """The node, and a subscriber to its probability."""
    for name in transport:
        environment = os.environ | TRANSPORTS[name] | {"ROS_DOMAIN_ID": own_domain()}
        remapping = ["--ros-args", "-r", f"~/input/image:={CAMERA}", "-p", f"checkpoint:={checkpoint}"]
        with (
            child("run-node", environment, *remapping) as anomaly,
            child("subscribe", environment, PROBABILITY) as listener,
        ):
            sent = run_camera(folder, frames, rate_hz, environment)
            outputs = report_of(listener)["outputs"]
            counts = report_of(anomaly)
        stamps = [stamp for stamp, _ in outputs]
        middle = f"{statistics.median(late for _, late in outputs) * 1e3:.0f} ms" if outputs else "-"
        print(
            f"{name:12} sent {len(sent)}, node received {counts.get('received', 0)}, published "
            f"{counts.get('published', 0)}, listener received {len(outputs)}, median latency {middle}\n"
            f"{'':12} every header is that of a sent image: {set(stamps) <= set(sent)}; strictly increasing:"
            f" {all(a < b for a, b in pairwise(stamps))}; counts {counts}",
            flush=True,
        )


@app.command(hidden=True)
def camera(folder: Path, frames: int, rate_hz: float) -> None:
    """Publish, and print the stamps."""
    pixels = decode(folder)
    rclpy.init()
    publishing = Node("camera")
    publisher = publishing.create_publisher(
        Image, CAMERA, QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody subscribed to {CAMERA} within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
    time.sleep(2.0)  # until the listeners behind the node have found it
    sent = []
    began = time.monotonic()
    for index, frame in enumerate(islice(cycle(pixels), frames)):
        msg = to_image_msg(frame, "rgb8", Header(frame_id="camera_optical"))
        time.sleep(max(0.0, began + index / rate_hz - time.monotonic()))
        now_ns = time.time_ns()
        msg.header.stamp = Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)
        publisher.publish(msg)
        sent.append(now_ns)
    time.sleep(3.0)
    rclpy.shutdown()
    print(json.dumps(sent))


@app.command(hidden=True)
def subscribe(topic: str = typer.Argument(CAMERA)) -> None:
    """Receive until SIGTERM, then print the stamp and the age in seconds of each image."""
    outputs = []

    def note(msg: Image) -> None:
        stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        assert msg.header.frame_id == "camera_optical"
        assert (msg.height, msg.width) == (540, 960)
        outputs.append((stamp_ns, (time.time_ns() - stamp_ns) / 1e9))

    rclpy.init()
    listening = Node("listener")
    reliability = QoSReliabilityPolicy.BEST_EFFORT if topic == CAMERA else QoSReliabilityPolicy.RELIABLE
    qos = QoSProfile(depth=10, reliability=reliability)
    listening.create_subscription(Image, topic, note, qos)
    executor = SingleThreadedExecutor()
    executor.add_node(listening)
    try:
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        print(json.dumps({"outputs": outputs}), flush=True)


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run_node(context: typer.Context) -> None:
    """The node itself, its counts printed at the end."""
    from eomt_ext_ros.node import AnomalyNode, main

    class Counting(AnomalyNode):
        def destroy_node(self) -> None:
            super().destroy_node()
            print(json.dumps(self.counts), flush=True)

    raise SystemExit(main(context.args, make_node=Counting))


def decode(folder: Path) -> list[np.ndarray]:
    """Photos and video frames as 960×540 RGB."""
    images = [read_rgb(path) for path in list_images(folder)]
    for path in sorted(path for path in folder.iterdir() if kind_of(path) == "video" and is_input(path)):
        with VideoReader(path) as video:
            images += video
    if not images:
        raise SystemExit(f"{folder} holds neither images nor videos")
    return [cv2.resize(image, (960, 540)) for image in images]


def own_domain() -> str:
    return os.environ.get("ROS_DOMAIN_ID") or str(1 + os.getpid() % 101)


@contextmanager
def child(command: str, environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, __file__, command, *arguments]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run_camera(folder: Path, frames: int, rate_hz: float, environment: dict[str, str]) -> list[int]:
    with child("camera", environment, str(folder), str(frames), str(rate_hz)) as process:
        out, _ = process.communicate()
    return json.loads(out.splitlines()[-1])


def report_of(process: subprocess.Popen[str]) -> dict:
    process.terminate()
    out, _ = process.communicate(timeout=120)
    return json.loads(out.splitlines()[-1])


if __name__ == "__main__":
    app()
