"""Six cameras in one process against six processes of one camera each: frames a second and memory, as ratios.

The demonstration model on the CPU; the cameras send more than either can process. Both are measured in turn, several
times over. Six processes take a greater part of a machine that others use as well, so frames per second of CPU time
count beside those on the clock. Of what processes share, as the libraries' code, proportional memory counts each page
once, resident memory once for each process.

    python benchmarks/node/six_cameras.py
"""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack
from typing import Annotated, Any, NamedTuple

import rclpy
import typer
from vehicle.operator import Operator
from vehicle.processes import Holding, Listener, camera_process, node_process, prepare_environment

CAMERAS = ("front", "front_left", "front_right", "rear", "left", "right")
OUTPUT = "probability"
SIZE_HW = (288, 512)
RATE_HZ = 8.0


class Measured(NamedTuple):
    """Of all processes together."""

    frames_per_s: float
    frames_per_cpu_s: float
    resident_mib: float
    proportional_mib: float


def drive(seconds: float, threads: int, *, together: bool) -> Measured:
    rclpy.init()
    listener = Listener()
    shared: dict[str, Any] = {"device": "cpu", "outputs": [OUTPUT]}
    names = {"": {"cameras": CAMERAS}} if together else {f"/{camera}": {} for camera in CAMERAS}
    prefixes = [f"/eomt_ext/{camera}" if together else f"/{camera}/eomt_ext" for camera in CAMERAS]
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes to come
    with ExitStack() as stack:
        nodes = []
        for namespace, parameters in names.items():
            context = node_process({**shared, **parameters}, namespace=namespace or "/")
            nodes.append(stack.enter_context(context))
            Operator(listener, f"{namespace}/eomt_ext/").wait_until_active()
        for prefix in prefixes:
            listener.listen(f"{prefix}/output/{OUTPUT}")
        cameras = [f"{prefix}/input/image" for prefix in prefixes]
        stack.enter_context(camera_process(cameras, RATE_HZ, 1e9, SIZE_HW))
        heard = listener.heard.values()
        Operator(listener).wait_until(lambda: all(len(notes) >= 3 for notes in heard), "outputs of every camera")
        for notes in heard:
            notes.clear()
        holdings = [Holding(node.pid) for node in nodes]
        began, cpu_began = time.monotonic(), sum(holding.cpu_s for holding in holdings)
        while time.monotonic() < began + seconds:
            listener.turn()
        processed, taken_s = sum(map(len, heard)), time.monotonic() - began
        cpu_s = sum(holding.cpu_s for holding in holdings) - cpu_began
        resident = sum(holding.resident_mib for holding in holdings)
        proportional = sum(holding.proportional_mib for holding in holdings)
    listener.close()
    return Measured(processed / taken_s, processed / cpu_s, resident, proportional)


def main(
    seconds: Annotated[float, typer.Option(help="of each measurement")] = 20.0,
    repeats: Annotated[int, typer.Option(help="of both, in turn")] = 3,
    threads: Annotated[int, typer.Option(help="of PyTorch in the one process; each of the six has one")] = 1,
) -> None:
    prepare_environment()
    measured: dict[bool, list[Measured]] = {True: [], False: []}
    for _ in range(repeats):
        for together in (True, False):
            result = drive(seconds, threads=threads if together else 1, together=together)
            measured[together].append(result)
            print(
                f"{'one process' if together else 'six processes':14}{result.frames_per_s:6.2f} frames/s, "
                f"{result.frames_per_cpu_s:6.2f} a second of CPU time, resident {result.resident_mib:5.0f} MiB, "
                f"proportional {result.proportional_mib:5.0f} MiB",
                flush=True,
            )
    ratios = [
        statistics.median(getattr(result, field) for result in measured[True])
        / statistics.median(getattr(result, field) for result in measured[False])
        for field in Measured._fields
    ]
    print(
        f"one process / six, medians of {repeats}: frames/s {ratios[0]:.2f}, frames a second of CPU time "
        f"{ratios[1]:.2f}, resident memory {ratios[2]:.2f}, proportional memory {ratios[3]:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
