"""What the node adds to inference at 1920×1080: receive, decode, find obstacles, render, publish, in milliseconds.

Inference is replaced by a stand-in of constant time. The images come from another process over DDS; the outputs go to a
third one. Each number of outputs is subscribed in turn, several times over, in one run: what nobody subscribes to is to
cost nothing. Time on the clock counts, and beside it the CPU time of the threads that do it, which other load on the
machine does not lengthen much.

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
from eomt_ext_ros import outputs, pipeline
from eomt_ext_ros.node import AnomalyNode, prepare_process

SIZE_HW = (1080, 1920)
STAND_IN_S = 0.05
RATE_HZ = 5.0
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

    def finish(self, node: AnomalyNode) -> None:
        """Take the image that was just answered or skipped into account."""
        self.images.append(dict(self._now))
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
    """The node, timed; prints the stages of each image."""
    prepare_process()
    rclpy.init()
    stages = Stages()
    executor = TimedExecutor()
    stages.time(executor, "take", "receive")
    stages.time(camera_module.Camera, "decode", "decode")
    stages.time(pipeline, "find_obstacles", "obstacles")
    stages.time(outputs.Rendering, "image", lambda _, name: f"render {name}")
    stages.time(pipeline, "to_image_msg", "fill messages")
    anomaly = AnomalyNode(engine_factory=make_factory(STAND_IN_S))
    executor.add_node(anomaly)
    anomaly.start()
    stages.time(anomaly.inference.engine, "infer_batch", "inference")
    for publisher in anomaly.cameras[""].publishers.values():
        stages.time(publisher, "publish", "publish")
    answer = anomaly._pipeline.answer

    def answer_one(batch: Any) -> float:
        try:
            return float(timed_answer.answer(batch))
        finally:
            stages.finish(anomaly)

    timed_answer = type("Answer", (), {"answer": staticmethod(answer)})()
    stages.time(timed_answer, "answer", "answer")
    anomaly._pipeline.answer = answer_one
    try:
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    print(json.dumps(stages.images[WARM_UP:]), flush=True)
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
    images_each: Annotated[int, typer.Option(help="images of a repeat")] = 40,
    repeats: Annotated[int, typer.Option(help="of each number of outputs, in turn")] = 3,
) -> None:
    """Run the node and print medians over all images."""
    if context.invoked_subcommand is not None:  # a process of the measurement
        return
    prepare_environment()
    timings: dict[str, list[dict[str, Seconds]]] = collections.defaultdict(list)
    ages: dict[str, list[float]] = collections.defaultdict(list)
    for _ in range(repeats):
        for name, subscribed in SUBSCRIBED.items():
            with _child("node") as anomaly, _child("listen", *subscribed) as listener:
                with camera_process(["/eomt_ext/input/image"], RATE_HZ, images_each / RATE_HZ, SIZE_HW) as camera:
                    camera.wait()
                time.sleep(1)
                timings[name] += _report(anomaly)
                ages[name] += [age for heard in _report(listener).values() for age in heard[WARM_UP:]]
    names = ["receive", "decode", "obstacles", "fill messages", "publish"]
    renders = sorted({stage for taken in timings["every output"] for stage in taken if stage.startswith("render")})
    heading = f"{'subscribed to':18}{'stage':22}{'ms':>8}{'CPU ms':>8}"
    print(f"{heading}   medians of {repeats} × {images_each - WARM_UP} images")
    for name, taken in timings.items():
        for stage in [*names, *renders]:
            if any(stage in each for each in taken):
                _print(name, stage, [each.get(stage, (0.0, 0.0)) for each in taken])
        _print(name, "ALL but inference", [_overhead(each) for each in taken])
        if ages[name]:
            late = statistics.median(ages[name]) - STAND_IN_S
            print(f"{name:18}{'camera to listener, without inference':37}{late * 1e3:9.1f}")


def _overhead(taken: dict[str, Seconds]) -> Seconds:
    """On the clock from first to last; of the CPU also what the thread that renders takes meanwhile."""
    none = np.zeros(2)
    wall, cpu = np.add(taken["answer"], taken.get("receive", none)) - taken.get("inference", none)
    rendering = sum(each[1] for stage, each in taken.items() if stage.startswith("render"))
    return float(wall), float(cpu + rendering)


def _print(name: str, stage: str, taken: list[Seconds]) -> None:
    wall_ms, cpu_ms = (1e3 * statistics.median(column) for column in zip(*taken, strict=True))
    print(f"{name:18}{stage:22}{wall_ms:8.2f}{cpu_ms:8.2f}")


def _child(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, *words], cwd=FOLDER, stdout=subprocess.PIPE, text=True)


def _report(process: subprocess.Popen[str]) -> Any:
    process.terminate()
    out, _ = process.communicate(timeout=60)
    return json.loads(out.splitlines()[-1])


if __name__ == "__main__":
    app()
