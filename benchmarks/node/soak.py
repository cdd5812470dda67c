"""Whether the node leaks: hours of driving in minutes, on a real process with the demonstration model.

A camera process sends images all the time. Meanwhile the node goes through 100 lifecycle cycles, its parameters change,
and malformed images come in between. In each cycle, at the same point of it, memory, threads and file descriptors are
read. After a fifth of the cycles, which warm it up, threads and descriptors must be the same in every one, and memory
must not grow. Memory moves in steps, those of the allocator, and stays where a step took it: a straight line's
confidence interval, which takes the deviations from it for independent, would be too narrow. The run is therefore cut
into ten equal parts, and the nine changes from one part's median to the next are looked at: a leak adds to every part,
a step to one. Their mean must not lie above zero by more than its 95 % confidence interval (Student's t, 8 degrees of
freedom), nor, where that is wide, add up to more than 1 % of the memory.

    python benchmarks/node/soak.py --minutes 30 --write
"""

from __future__ import annotations

import itertools
import re
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import rclpy
import torch
import typer
from rclpy.qos import qos_profile_sensor_data
from scipy import stats
from sensor_msgs.msg import Image
from vehicle.operator import Operator
from vehicle.processes import Holding, Listener, camera_process, node_process, prepare_environment

from eomt_ext_core.bench.machine import describe_machine
from eomt_ext_core.files import atomic_write

SIZE_HW = (120, 160)
RATE_HZ = 4.0
OUTPUTS = ("/eomt_ext/output/probability", "/eomt_ext/output/overlay")  # for programs, and drawn beside the next
INPUT = "/eomt_ext/input/image"
WARM_UP = 0.2  # of the cycles
PARTS = 10
MOST_GROWTH = 0.01  # of the memory
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

PARAMETERS = (
    {"publish_scale": 0.5, "overlay_opacity": 0.3},
    {"threshold": 0.7, "colour_map": "viridis"},
    {"publish_scale": 1.0, "overlay_opacity": 0.9},
    {"threshold": 0.3, "colour_map": "turbo"},
)


class Sample(NamedTuple):
    """Taken once in a cycle."""

    time_s: float
    resident_mib: float
    threads: int
    descriptors: int


class Growth(NamedTuple):
    """Of memory over time, in MiB a minute: mean change, and half its 95 % confidence interval."""

    slope: float
    margin: float


def growth(samples: list[Sample]) -> Growth:
    """Mean and confidence of the changes between the medians of ten parts: the drift of a random walk."""
    parts = np.array_split(np.array([sample[:2] for sample in samples]), PARTS)
    times_s, resident_mib = np.array([np.median(part, axis=0) for part in parts if len(part)]).T
    changes = np.diff(resident_mib) / np.diff(times_s / 60)
    return Growth(float(changes.mean()), float(stats.sem(changes) * stats.t.ppf(0.975, len(changes) - 1)))


def malformed() -> Iterator[Image]:
    """Images that cannot be, over and over."""
    for number in itertools.count():
        msg = Image(height=8, width=8, encoding="rgb8", step=24)
        msg.data.frombytes(bytes(8 * 24))
        match number % 5:
            case 0:
                msg.height = 0
            case 1:
                msg.height, msg.width = 2**31, 2**31
            case 2:
                msg.step = 7
            case 3:
                del msg.data[100:]
            case 4:
                msg.encoding = "no such encoding"
        yield msg


def soak(minutes: float, cycles: int) -> tuple[list[Sample], dict[str, int]]:
    """Samples of every cycle, and what became of the images."""
    rclpy.init()
    listener = Listener()
    operator = Operator(listener)
    for output in OUTPUTS:
        listener.listen(output)
    broken, sent_broken, samples = malformed(), 0, []
    publisher = listener.node.create_publisher(Image, INPUT, qos_profile_sensor_data)
    seconds = 60 * minutes
    with (
        node_process({"checkpoint": "demo", "device": "cpu"}) as process,
        camera_process([INPUT], RATE_HZ, 1e9, SIZE_HW),
    ):
        operator.wait_until(lambda: all(listener.heard.values()), "the first output")
        holding, began = Holding(process.pid), time.monotonic()
        for cycle, parameters in zip(range(cycles), itertools.cycle(PARAMETERS), strict=False):
            operator.set(**parameters)
            while time.monotonic() < began + seconds * (cycle + 1) / cycles:
                publisher.publish(next(broken))
                sent_broken += 1
                until = time.monotonic() + 0.25
                while time.monotonic() < until:
                    listener.turn()
            operator.change_state("deactivate", "cleanup", "configure", "activate")
            for heard in listener.heard.values():
                heard.clear()
            operator.wait_until(lambda: min(map(len, listener.heard.values())) >= 2, "outputs after a cycle")
            samples.append(Sample(time.monotonic() - began, holding.resident_mib, holding.threads, holding.descriptors))
            print(f"cycle {cycle + 1:3}: {samples[-1]}", file=sys.stderr, flush=True)
            if process.poll() is not None:
                raise RuntimeError(f"the node ended with code {process.returncode}")
        operator.statuses.clear()
        operator.wait_until(lambda: "camera" in operator.statuses, "diagnostics")
        told = operator.statuses["camera"]
    counts = {name: int(value) for name, value in told.items() if value.isdecimal() and name != "publishers"}
    listener.close()
    return samples, {"malformed images sent": sent_broken} | counts


def report(samples: list[Sample], counts: dict[str, int], command: str) -> tuple[str, bool]:
    """A table in Markdown, and whether the run passed."""
    machine = describe_machine(torch.device("cpu"))
    steady = samples[round(WARM_UP * len(samples)) :]
    line = growth(steady)
    resident = statistics.median(sample.resident_mib for sample in steady)
    grown = line.slope * (steady[-1].time_s - steady[0].time_s) / 60
    flat = line.slope <= line.margin and grown <= MOST_GROWTH * resident
    held = {name: sorted({getattr(sample, name) for sample in steady}) for name in ("threads", "descriptors")}
    constant = all(len(values) == 1 for values in held.values())
    rejected = sum(count for name, count in counts.items() if name.startswith("rejected/"))
    failed = sum(count for name, count in counts.items() if name.startswith("failed/"))
    rows = {
        "command": f"`{command}`",
        "machine": f"{machine['processor']}; {machine['software']}",
        "other load at the end": machine["other load"],
        "duration, lifecycle cycles": f"{samples[-1].time_s / 60:.1f} min, {len(samples)}",
        "images received, published": f"{counts['received']}, {counts['published']}",
        "malformed images sent, rejected": f"{counts['malformed images sent']}, {rejected}",
        "inference failed": str(failed),
        "resident memory (median after warm-up)": f"{resident:.1f} MiB",
        "its slope (95 % confidence)": f"{line.slope:+.3f} ± {line.margin:.3f} MiB/min, {grown:+.1f} MiB in all",
        "threads": " to ".join(map(str, sorted({held["threads"][0], held["threads"][-1]}))),
        "file descriptors": " to ".join(map(str, sorted({held["descriptors"][0], held["descriptors"][-1]}))),
        "verdict": "passed" if flat and constant and not failed else "**failed**",
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines), flat and constant and not failed


def main(
    minutes: Annotated[float, typer.Option(help="duration")] = 30.0,
    cycles: Annotated[int, typer.Option(help="lifecycle cycles in that time")] = 100,
    write: Annotated[bool, typer.Option(help="put the table into docs/reliability.md")] = False,
) -> None:
    prepare_environment()
    command = f'make soak ARGS="--minutes {minutes:g} --cycles {cycles}"'
    table, passed = report(*soak(minutes, cycles), command)
    print(table)
    if write:
        text = DOCUMENT.read_text()
        block = f"<!-- soak -->\n{table}\n<!-- end of soak -->"
        with atomic_write(DOCUMENT) as path:
            path.write_text(re.sub(r"<!-- soak -->.*<!-- end of soak -->", lambda _: block, text, flags=re.DOTALL))
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    typer.run(main)
