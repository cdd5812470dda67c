"""What the node adds to inference at 1920×1080: receive, decode, find obstacles, render, publish, in milliseconds.

Inference is replaced by a stand-in of 50 ms. Images come from another process over DDS at 25 Hz, faster than the node
processes them; the outputs go to a third process. Each number of outputs is subscribed in turn, several times over, in
one run: outputs without subscribers should cost nothing. Both clock time and CPU time of threads are measured, since
other load on the machine hardly affects the latter.

"ADDED TO EACH IMAGE" is the taking of the image from the middleware, in the executor's thread, and all that the
inference thread does but infer. Visualisations are drawn and published in a thread of their own, beside the next
inference. What they take from it (cores, and Python's lock) does not show beside a stand-in that sleeps. "until the
last visualisation" is how long after the image's turn began, inference left out, its last one was handed to the
middleware.
"from turn to turn" is how much longer than inference the node takes for an image while one always waits, whatever it is
that holds it up; "the whole process" is the CPU time of all threads meanwhile, those of Fast DDS among them.

    python benchmarks/node/node_overhead.py
"""

from __future__ import annotations

import collections
import functools
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from vehicle.processes import FOLDER, Listener, camera_process, prepare_environment
from vehicle.stand_in import StandIn, make_factory

from eomt_ext_ros.messages import images as image_messages
from eomt_ext_ros.messages.installed import installed_type
from eomt_ext_ros.node import AnomalyNode, prepare_process
from eomt_ext_ros.outputs import rendering
from eomt_ext_ros.outputs.registry import OUTPUTS
from eomt_ext_ros.pipeline import publishing
from eomt_ext_ros.pipeline.camera import Camera
from eomt_ext_ros.pipeline.session import Session
from eomt_ext_ros.process.dds_profile import publication_environment
from eomt_ext_ros.workers.visualisation import VisualisationWorker

SIZE_HW = (1080, 1920)
STAND_IN_S = 0.05
RATE_HZ = 25.0
WARM_UP = 5
EVERY = {
    output.name: output
    for output in OUTPUTS
    if output.render is not None and installed_type(output.message_type) is not None
}
SUBSCRIBED = {
    "nothing": (),
    "probability": ("probability",),
    "mask": ("mask",),
    "all for programs": tuple(name for name, output in EVERY.items() if output.audience == "programs"),
    "every output": tuple(EVERY),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Seconds = tuple[float, float]  # on the clock, of the CPU


class Stages:
    """Times functions that a thread calls once or more in the course of an image, until it is finished."""

    def __init__(self) -> None:
        self.images: list[dict[str, Seconds]] = []
        self._now: dict[str, Seconds] = collections.defaultdict(lambda: (0.0, 0.0))

    def add(self, stage: str, taken: Seconds) -> None:
        """Add to a stage of this image."""
        self._now[stage] = self._now[stage][0] + taken[0], self._now[stage][1] + taken[1]

    def now_s(self, stage: str) -> float:
        """Return the seconds of a stage of this image."""
        return self._now[stage][0]

    def finish(self) -> None:
        """Count the image that was just published, skipped or drawn."""
        self.images.append(dict(self._now))
        self._now.clear()


STAGES, OF_VISUALISATIONS = Stages(), Stages()


def time_calls(owner: Any, name: str, stage: str) -> None:
    """Replace a function by one that is timed, for the thread that calls it."""
    work = getattr(owner, name)

    @functools.wraps(work)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter(), time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            stages = OF_VISUALISATIONS if threading.current_thread().name.startswith("visualisation") else STAGES
            stages.add(stage, (time.perf_counter() - began[0], time.thread_time() - began[1]))

    setattr(owner, name, timed)


class TimedExecutor(SingleThreadedExecutor):
    """Times the taking of a message, which rclpy does out of sight."""

    def take(self, subscription: Any) -> Any:
        return super()._take_subscription(subscription)

    def _take_subscription(self, subscription: Any) -> Any:
        return (
            self.take(subscription) if "image" in subscription.topic_name else super()._take_subscription(subscription)
        )


def _begin() -> None:
    """Start ROS; SIGTERM interrupts Python, instead of ending the context during a wait."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@app.command(hidden=True)
def node() -> None:
    """The node, timed; prints the stages of each image and of its visualisations."""
    prepare_process()
    os.environ.update(publication_environment(os.environ))
    _begin()
    executor = TimedExecutor()
    time_calls(executor, "take", "receive")
    time_calls(Camera, "decode", "decode")
    StandIn.most_in_flight = 1  # one image after the other
    time_calls(StandIn, "collect", "inference")
    time_calls(publishing, "find_obstacles", "obstacles")
    time_calls(image_messages, "to_image_msg", "fill messages")
    for name, stage in (("coloured", "heatmap"), ("blend", "overlay"), ("outline", "overlay")):
        time_calls(rendering, name, stage)
    for name in ("begin", "finish"):
        time_calls(Session, name, "turn")
    begin, finish, submit = Session.begin, Session.finish, VisualisationWorker.submit

    def timed_begin(session: Session, batch: Any) -> Any:
        STAGES.add("began", (time.monotonic(), time.process_time()))
        return begin(session, batch)

    def timed_finish(session: Session, started: Any) -> Any:
        backoffs_s = finish(session, started)
        STAGES.finish()
        return backoffs_s

    def timed_submit(worker: VisualisationWorker, task: Callable[..., None], *args: Any) -> None:
        submit(worker, timed_draw, task, args, STAGES.now_s("began") + STAGES.now_s("inference"))

    def timed_draw(draw: Callable[..., None], args: Any, since_s: float) -> None:
        began = time.perf_counter(), time.thread_time()
        draw(*args)
        OF_VISUALISATIONS.add("drawn", (time.perf_counter() - began[0], time.thread_time() - began[1]))
        OF_VISUALISATIONS.add("until the last visualisation", (time.monotonic() - since_s, 0.0))
        OF_VISUALISATIONS.finish()

    Session.begin, Session.finish = timed_begin, timed_finish  # type: ignore[method-assign]
    VisualisationWorker.submit = timed_submit  # type: ignore[method-assign]
    anomaly = AnomalyNode(engine_factory=make_factory(STAND_IN_S))
    executor.add_node(anomaly)
    anomaly.start()
    assert anomaly.session is not None, "the stand-in can be loaded"
    for publisher in anomaly.session.cameras[""].publishers.values():
        time_calls(publisher, "publish", "publish")
    try:
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
    except KeyboardInterrupt:
        pass
    executor.shutdown()
    anomaly.destroy_node()
    rclpy.try_shutdown()
    print(json.dumps([STAGES.images[WARM_UP:], OF_VISUALISATIONS.images[WARM_UP:]]), flush=True)


@app.command(hidden=True)
def listen(names: list[str] = typer.Argument(None)) -> None:  # noqa: B008
    """Receive these outputs until SIGTERM."""
    _begin()
    listener = Listener()
    for name in names or ():
        listener.listen(f"/eomt_ext/output/{name}", installed_type(EVERY[name].message_type))
    try:
        while rclpy.ok():
            listener.turn()
    except KeyboardInterrupt:
        pass
    listener.close()
    rclpy.try_shutdown()


@app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    images_each: Annotated[int, typer.Option(help="images that are sent in a repeat")] = 100,
    repeats: Annotated[int, typer.Option(help="of each number of outputs, in turn")] = 3,
) -> None:
    """Run the node and print medians over all images."""
    if context.invoked_subcommand is not None:  # a process of the measurement
        return
    prepare_environment()
    timings: dict[str, list[dict[str, Seconds]]] = collections.defaultdict(list)
    shown: dict[str, list[dict[str, Seconds]]] = collections.defaultdict(list)
    rounds: dict[str, list[Seconds]] = collections.defaultdict(list)
    for _ in range(repeats):
        for name, subscribed in SUBSCRIBED.items():
            with _child("node") as anomaly, _child("listen", *subscribed) as listener:
                with camera_process(["/eomt_ext/input/image"], RATE_HZ, images_each / RATE_HZ, SIZE_HW) as camera:
                    camera.wait()
                time.sleep(1)
                listener.terminate()
                anomaly.terminate()
                images, of_visualisations = json.loads(anomaly.communicate(timeout=60)[0].splitlines()[-1])
                timings[name] += images
                rounds[name] += itertools.starmap(_round, itertools.pairwise(images))
                shown[name] += of_visualisations
    print(f"{'subscribed to':18}{'':38}{'ms':>8}{'CPU ms':>8}   medians of {repeats} × up to {images_each} images")
    for name, taken in timings.items():
        for stage in ("receive", "decode", "obstacles", "fill messages", "publish"):
            _print(name, stage, [each[stage] for each in taken if stage in each])
        _print(name, "ADDED TO EACH IMAGE", [_added(each) for each in taken])
        for stage in ("heatmap", "overlay", "fill messages", "publish", "drawn"):
            _print(name, f"beside the next: {stage}", [each[stage] for each in shown[name] if stage in each])
        _print(name, "until the last visualisation", [each["until the last visualisation"] for each in shown[name]])
        _print(name, "from turn to turn, less inference", [(period, 0.0) for period, _ in rounds[name] if period])
        _print(name, "the whole process", [(0.0, process) for _, process in rounds[name]])


def _added(taken: dict[str, Seconds]) -> Seconds:
    """What the node's threads do for programs, without inference."""
    none = (0.0, 0.0)
    wall, cpu = np.add(taken["turn"], taken.get("receive", none)) - taken.get("inference", none)
    return float(wall), float(cpu)


def _round(image: dict[str, Seconds], following: dict[str, Seconds]) -> Seconds:
    """From the turn of an image to the next one's: the time without inference, and the CPU time of the process."""
    wall_s, cpu_s = np.subtract(following["began"], image["began"])
    # Without inference the node waits for images, which does not count.
    return float(wall_s) - image["inference"][0] if "inference" in image else 0.0, float(cpu_s)


def _print(name: str, stage: str, times: list[Seconds]) -> None:
    if times:
        wall_ms, cpu_ms = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        wall, cpu = (f"{ms:8.2f}" if ms else " " * 8 for ms in (wall_ms, cpu_ms))
        print(f"{name:18}{stage:38}{wall}{cpu}".rstrip())


def _child(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, *words], cwd=FOLDER, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    app()
