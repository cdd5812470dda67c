"""What the node adds to inference at 1920×1080: receive, decode, find obstacles, render, publish, in milliseconds.

Inference is replaced by a stand-in of constant time. Images come from another process over DDS, faster than the node
answers, so that one image follows the other; the outputs go to a third process. Each number of outputs is subscribed in
turn, several times over, in one run: what nobody subscribes to is to cost nothing. Time on the clock counts, and beside
it the CPU time of the threads that do it, which other load on the machine does not lengthen much.

"ADDED TO EACH IMAGE" is what the inference thread does but for inference, and the executor's taking of the image: what
there is between one inference and the next. Pictures are drawn and published by a thread of their own, beside the next
inference. "until the last output" is how long after its turn began, inference left out, an image's last output was
handed to the middleware.

    python benchmarks/node_overhead.py
"""

from __future__ import annotations

import collections
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from vehicle.processes import FOLDER, Listener, camera_process, prepare_environment
from vehicle.stand_in import make_factory

from eomt_ext_ros import camera as camera_module
from eomt_ext_ros import outputs, pictures, pipeline
from eomt_ext_ros.dds_profile import publication_environment
from eomt_ext_ros.node import AnomalyNode, prepare_process

SIZE_HW = (1080, 1920)
STAND_IN_S = 0.05
RATE_HZ = 20.0
WARM_UP = 5
EVERY = tuple(camera_module.OUTPUTS)
SUBSCRIBED = {
    "nothing": (),
    "probability": ("probability",),
    "mask, obstacles": ("mask", "obstacles"),
    "all for programs": tuple(name for name in EVERY if name not in outputs.PICTURES),
    "every output": EVERY,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Seconds = tuple[float, float]  # on the clock, of the CPU


class Stages:
    """Times functions that are called once or more in the course of an image, until it is finished."""

    def __init__(self) -> None:
        self.images: list[dict[str, Seconds]] = []
        self._now: dict[str, Seconds] = collections.defaultdict(lambda: (0.0, 0.0))

    def time(self, owner: Any, name: str, stage: Callable[..., str] | str) -> None:
        """Replace a function by one that is timed."""
        work = getattr(owner, name)

        @functools.wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter(), time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                taken = time.perf_counter() - began[0], time.thread_time() - began[1]
                key = stage if isinstance(stage, str) else stage(*args)
                self._now[key] = self._now[key][0] + taken[0], self._now[key][1] + taken[1]

        setattr(owner, name, timed)

    def now(self, stage: str) -> float:
        """Seconds on the clock that a stage has taken of this image."""
        return self._now[stage][0]

    def finish(self, **clock_s: float) -> None:
        """Take the image that was just answered, skipped or shown into account, and other times of it."""
        self.images.append({**self._now, **{stage: (taken, 0.0) for stage, taken in clock_s.items()}})
        self._now.clear()


class TimedExecutor(SingleThreadedExecutor):
    """Times the taking of a message, which rclpy does out of sight."""

    def take(self, subscription: Any) -> Any:
        return super()._take_subscription(subscription)

    def _take_subscription(self, subscription: Any) -> Any:
        return (
            self.take(subscription) if "image" in subscription.topic_name else super()._take_subscription(subscription)
        )


@app.command(hidden=True)
def node() -> None:
    """The node, timed; prints the stages of each image and of its pictures."""
    prepare_process()
    os.environ.update(publication_environment(os.environ))
    rclpy.init()
    stages, of_pictures = Stages(), Stages()
    executor = TimedExecutor()
    stages.time(executor, "take", "receive")
    stages.time(camera_module.Camera, "decode", "decode")
    stages.time(pipeline, "find_obstacles", "obstacles")
    stages.time(pipeline, "to_image_msg", "fill messages")
    for name, stage in (("heatmap", "heatmap"), ("blend", "overlay"), ("outline", "overlay")):
        of_pictures.time(outputs, name, stage)
    of_pictures.time(pictures, "to_image_msg", "fill messages")
    anomaly = AnomalyNode(engine_factory=make_factory(STAND_IN_S))
    executor.add_node(anomaly)
    anomaly.start()
    stages.time(anomaly.inference.engine, "infer_batch", "inference")
    for name, publisher in anomaly.cameras[""].publishers.items():
        (of_pictures if name in outputs.PICTURES else stages).time(publisher, "publish", "publish")
    stages.time(anomaly._pipeline, "answer", "turn")
    of_pictures.time(anomaly._pipeline._pictures, "_show", "pictures")
    answer, show, draw = anomaly._pipeline.answer, anomaly._pipeline._pictures.show, anomaly._pipeline._pictures._show
    began_s = 0.0
    began_of: collections.deque[float] = collections.deque()  # the turns whose pictures are not drawn yet

    def timed_answer(batch: Any) -> float:
        nonlocal began_s
        began_s = time.perf_counter()
        rest_s = float(answer(batch))
        stages.finish()
        return rest_s

    def timed_show(*args: Any) -> Any:
        began_of.append(began_s + stages.now("inference"))
        return show(*args)

    def timed_draw(*args: Any) -> Any:
        failed = draw(*args)
        of_pictures.finish(until_last_output=time.perf_counter() - began_of.popleft())
        return failed

    anomaly._pipeline.answer = timed_answer
    anomaly._pipeline._pictures.show, anomaly._pipeline._pictures._show = timed_show, timed_draw
    try:
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    print(json.dumps([stages.images[WARM_UP:], of_pictures.images[WARM_UP:]]), flush=True)
    os._exit(0)


@app.command(hidden=True)
def listen(names: list[str] = typer.Argument(None)) -> None:  # noqa: B008
    """Receive these outputs until told to end."""
    rclpy.init()
    listener = Listener()
    for name in names or ():
        listener.listen(f"/eomt_ext/output/{name}", camera_module.OUTPUTS[name])
    try:
        while rclpy.ok():
            listener.turn()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    print(json.dumps({topic: [age / 1e9 for _, age in notes] for topic, notes in listener.heard.items()}), flush=True)
    os._exit(0)


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
    for _ in range(repeats):
        for name, subscribed in SUBSCRIBED.items():
            with _child("node") as anomaly, _child("listen", *subscribed) as listener:
                with camera_process(["/eomt_ext/input/image"], RATE_HZ, images_each / RATE_HZ, SIZE_HW) as camera:
                    camera.wait()
                time.sleep(1)
                images, of_pictures = _report(anomaly)
                timings[name] += images
                shown[name] += of_pictures
                _report(listener)
    print(f"{'subscribed to':18}{'':38}{'ms':>8}{'CPU ms':>8}   medians of {repeats} × up to {images_each} images")
    for name, taken in timings.items():
        for stage in ("receive", "decode", "obstacles", "fill messages", "publish"):
            _print(name, stage, taken)
        _print(name, "ADDED TO EACH IMAGE", [{"": _added(each)} for each in taken], "")
        for stage in ("heatmap", "overlay", "fill messages", "publish", "pictures"):
            _print(name, f"beside the next: {stage}", shown[name], stage)
        _print(name, "until the last output", shown[name], "until_last_output")


def _added(taken: dict[str, Seconds]) -> Seconds:
    """What the node does between two inferences."""
    none = (0.0, 0.0)
    wall, cpu = np.add(taken["turn"], taken.get("receive", none)) - taken.get("inference", none)
    return float(wall), float(cpu)


def _print(name: str, label: str, taken: list[dict[str, Seconds]], stage: str | None = None) -> None:
    times = [each[label if stage is None else stage] for each in taken if (label if stage is None else stage) in each]
    if times:
        wall_ms, cpu_ms = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        cpu = f"{cpu_ms:8.2f}" if cpu_ms else ""
        print(f"{name:18}{label:38}{wall_ms:8.2f}{cpu}")


def _child(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, *words], cwd=FOLDER, stdout=subprocess.PIPE, text=True)


def _report(process: subprocess.Popen[str]) -> Any:
    process.terminate()
    out, _ = process.communicate(timeout=60)
    return json.loads(out.splitlines()[-1])


if __name__ == "__main__":
    app()
