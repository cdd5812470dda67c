"""Input at four times the capacity of the node, for a minute: latency, memory, order, and fairness between cameras.

The node, its cameras and the listener are three processes. The capacity is measured first, as the rate of outputs when
images never run out. Latency runs from an image's stamp to its output at the listener. An image that comes in while
another one is worked on waits at most that one's time and then takes its own, so the 99th percentile is to stay below
twice the service time (the 99th percentile of the node's own processing time, from its diagnostics) and the transport
there and back (twice the 99th percentile of an input image's way to a plain listener beside the node). Ends with code 1
if that, the order of stamps, the memory or the fairness between cameras violates its rule.

    python benchmarks/node/overload.py
    python benchmarks/node/overload.py --engine demo
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from vehicle.operator import Operator
from vehicle.processes import Holding, Listener, camera_process, node_process, prepare_environment

OVERLOAD = 4
CAMERAS = ("front", "front_left", "front_right", "rear", "left", "right")
MANY_AT_ONCE = 4  # does not divide the number of cameras
CAPACITY_S = 8.0
FLOOD_HZ = 60.0
OUTPUT = "mask"
MOST_GROWTH_MIB = 5.0  # from the second quarter of the time to the last
MOST_UNFAIR = 1.1  # images of the camera with the most, over those of the camera with the fewest


def topics(cameras: Sequence[str], name: str) -> list[str]:
    return [f"/eomt_ext/{camera}/{name}" if camera else f"/eomt_ext/{name}" for camera in cameras]


def overload(
    cameras: Sequence[str], seconds: float, stand_in_s: float | None, size_hw: tuple[int, int], in_flight: int
) -> bool:
    """Whether everything was as it must be."""
    parameters: dict[str, Any] = {"device": "cpu", "publish_scale": 0.25, "in_flight": in_flight}
    if cameras != ("",):
        parameters |= {"cameras": cameras, "max_batch_cameras": MANY_AT_ONCE}
    rclpy.init()
    listener = Listener()
    operator = Operator(listener)
    inputs, outputs = topics(cameras, "input/image"), topics(cameras, f"output/{OUTPUT}")
    for topic in outputs:
        listener.listen(topic)
    listener.listen(inputs[0], best_effort=True)

    def drive(rate_hz: float, for_s: float) -> list[float]:
        """Resident memory of the node in MiB, once a second."""
        resident = []
        with camera_process(inputs, rate_hz, for_s, size_hw, listeners=1) as process:
            while process.poll() is None:
                second = time.monotonic() + 1
                while time.monotonic() < second:
                    listener.turn()
                resident.append(holding.resident_mib)
        return resident

    with node_process(parameters, stand_in_s=stand_in_s) as node:
        holding = Holding(node.pid)
        operator.wait_until_active()
        drive(FLOOD_HZ / len(cameras), CAPACITY_S)
        notes = [listener.heard[topic] for topic in outputs]
        span_s = (max(note[-1][0] for note in notes) - min(note[0][0] for note in notes)) / 1e9
        capacity_hz = sum(map(len, notes)) / span_s
        for heard in listener.heard.values():
            heard.clear()
        before = dict(_counts(operator))
        resident = drive(OVERLOAD * capacity_hz / len(cameras), seconds)
        timing = operator.statuses[f"camera {cameras[0]}".strip()]
        counts = {name: value - before.get(name, 0) for name, value in _counts(operator).items()}
    ages_s = np.array([age for topic in outputs for _, age in listener.heard[topic]]) / 1e9
    transport_s = np.percentile([age for _, age in listener.heard[inputs[0]]], (50, 99)) / 1e9
    service_s = np.array([float(timing[f"processing time {name} (s)"]) for name in ("p50", "p99")])
    newer = all(a < b for topic in outputs for (a, _), (b, _) in pairwise(listener.heard[topic]))
    processed = [len(listener.heard[topic]) for topic in outputs]
    latency_s = np.percentile(ages_s, (50, 99))
    bound_s = 2 * service_s[1] + 2 * transport_s[1]
    quarter = max(1, len(resident) // 4)
    resident_mib = np.median(resident[quarter : 2 * quarter]), np.median(resident[-quarter:])
    unfairness = max(processed) / max(1, min(processed))
    kept = {
        "latency": latency_s[1] <= bound_s,
        "memory": resident_mib[1] - resident_mib[0] <= MOST_GROWTH_MIB,
        "order": newer,
        "fraction of each camera": min(processed) > 0 and unfairness <= MOST_UNFAIR,
    }
    print(
        f"{len(cameras)} camera{'s' * (len(cameras) > 1)}, {size_hw[1]}×{size_hw[0]}, "
        f"capacity {capacity_hz:.1f} images/s, input {OVERLOAD} times that for {seconds:.0f} s\n"
        f"  node: {counts}\n"
        f"  service time p50 {1e3 * service_s[0]:.0f} ms, p99 {1e3 * service_s[1]:.0f} ms; one way of an image "
        f"p50 {1e3 * transport_s[0]:.0f} ms, p99 {1e3 * transport_s[1]:.0f} ms\n"
        f"  latency p50 {1e3 * latency_s[0]:.0f} ms, p99 {1e3 * latency_s[1]:.0f} ms; "
        f"bound {1e3 * bound_s:.0f} ms\n"
        f"  resident memory {resident_mib[0]:.1f} MiB in the second quarter, {resident_mib[1]:.1f} MiB in the last\n"
        f"  every stamp newer than the last one's: {newer}; images of each camera {processed}, "
        f"most over least {unfairness:.3f}\n"
        f"  {', '.join(f'{name} ' + ('kept' if held else 'BROKEN') for name, held in kept.items())}",
        flush=True,
    )
    listener.close()
    return all(kept.values())


def _counts(operator: Operator) -> dict[str, int]:
    """Return the counts of images of all cameras in the newest diagnostics."""
    names = ("received", "published", "dropped")
    cameras = [values for part, values in operator.statuses.items() if part.startswith("camera")]
    return {name: sum(int(values[name]) for values in cameras) for name in names}


def main(
    seconds: Annotated[float, typer.Option(help="of overload")] = 60.0,
    engine: Annotated[str, typer.Option(help="stand-in, or demo for the demonstration model")] = "stand-in",
    service_ms: Annotated[float, typer.Option(help="time that the stand-in takes")] = 100.0,
    height: Annotated[int, typer.Option(help="of an image")] = 240,
    width: Annotated[int, typer.Option(help="of an image")] = 320,
    in_flight: Annotated[int, typer.Option(help="parameter of the node; the stand-in takes two by itself")] = 0,
) -> None:
    prepare_environment()
    stand_in_s = service_ms / 1e3 if engine == "stand-in" else None
    kept = [overload(cameras, seconds, stand_in_s, (height, width), in_flight) for cameras in (("",), CAMERAS)]
    raise SystemExit(0 if all(kept) else 1)


if __name__ == "__main__":
    typer.run(main)
