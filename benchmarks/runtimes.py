"""One model in every runtime, in turn on one CPU: seconds, CPU seconds, memory, and AuPRC.

    python benchmarks/runtimes.py prepare base FOLDER --images IMAGES      # or small, large, demo, a checkpoint
    python benchmarks/runtimes.py time FOLDER --json times.json
    python benchmarks/runtimes.py auprc FOLDER --data SETS... --json auprc.json

``prepare`` writes the checkpoint and its exports, int8 with ranges from the images. The others give each way its own
process, print what they have after every round or set, and write the JSON at the end, when interrupted too. A way that
fails is named with its error, and the others go on. On a busy machine only the CPU seconds compare.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

IMAGE_HW = (540, 960)
WAYS = ("literal fp32", "torch fp32", "torch bf16", "onnxruntime fp32", "openvino fp32", "openvino bf16",
        "onnxruntime int8", "openvino int8")  # fmt: skip
CHECKPOINT = "model.safetensors"


def prepare(name: str, folder: Path, images: Path) -> None:
    """Write a model and its exports."""
    from eomt_ext_core import save_model
    from eomt_ext_core.bench.variants.models import make_model
    from eomt_ext_core.commands.int8_check import calibration_images
    from eomt_ext_core.export.export_config import ExportConfig
    from eomt_ext_core.export.exporting import export_model

    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(name)
    save_model(model, folder / CHECKPOINT)
    print(folder / CHECKPOINT, flush=True)
    for precision in ("fp32", "int8"):
        ranges = calibration_images(images) if precision == "int8" else ()
        differences = export_model(
            model, folder / f"{precision}.onnx", ExportConfig(precision=precision), calibration=ranges
        )
        print(folder / f"{precision}.onnx", *differences, flush=True)


# What follows runs in the process of a way.


@cache
def runner(way: str, folder: Path) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return a way's functions of an image: whole frame, and scores."""
    import torch

    from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
    from eomt_ext_core.bench.clock import StageClock
    from eomt_ext_core.bench.variants.literal import LiteralPipeline

    runtime, precision = way.split()
    if runtime == "literal":
        pipeline, device = LiteralPipeline(load_model(folder / CHECKPOINT), torch.device("cpu"), bf16=False), "cpu"
        return (lambda image: pipeline.run(image, StageClock(torch.device(device))),) * 2
    source = CHECKPOINT if runtime == "torch" else "int8.onnx" if precision == "int8" else "fp32.onnx"
    config = EngineConfig("cpu", runtime, "auto" if precision == "int8" else precision)
    engine = AnomalyEngine.load(folder / source, config)
    return engine.infer, lambda image: engine.score_maps(image, ("head",))["head"]


@dataclass
class Frame:
    """One frame: seconds, CPU seconds of all threads, and the peak of the process until its end."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def run_frame(way: str, folder: Path) -> Frame:
    frame, _ = runner(way, folder)
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE_HW, 3), dtype=np.uint8)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak: see proc_pid_clear_refs(5)
    wall, cpu = time.perf_counter(), time.process_time()
    frame(image)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return Frame(wall, cpu, int(peak.split()[1]) / 1024)


@cache
def pixel_metrics(dataset: str) -> Any:
    from eomt_ext_core.evaluation import PixelMetrics

    return PixelMetrics()


def add_image(way: str, folder: Path, dataset: str, image: Any, labels: Any) -> None:
    pixel_metrics(dataset).update(runner(way, folder)[1](image), labels)


def auprc_of(dataset: str) -> float:
    return float(pixel_metrics(dataset).compute().auprc)


# And this in the process that is started.


@dataclass
class Ways:
    """A process for each way, and the errors of those that failed."""

    workers: dict[str, ProcessPoolExecutor]
    failed: dict[str, str] = field(default_factory=dict)

    def each(self, task: Callable[..., Any], *arguments: Any, named: bool = True) -> Iterator[tuple[str, Any]]:
        """Run a task in one process after the other."""
        for way, worker in self.workers.items():
            if way not in self.failed:
                try:
                    yield way, worker.submit(task, *((way,) if named else ()), *arguments).result()
                except Exception as error:  # a way that fails is a result
                    self.failed[way] = f"{type(error).__name__}: {error}"
                    print(f"{way} failed: {self.failed[way]}", flush=True)


@contextmanager
def recording(ways: list[str], path: Path | None, result: dict[str, Any]) -> Iterator[Ways]:
    """Start the processes; at the end, or when interrupted, stop them and write the result."""
    import torch

    from eomt_ext_core.bench.machine import describe_machine
    from eomt_ext_core.files import atomic_write, without_nan

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = partial(ProcessPoolExecutor, 1, multiprocessing.get_context("spawn"))
    # a process that is interrupted by the terminal could not finish its frame
    processes = Ways({way: start(signal.signal, (signal.SIGINT, signal.SIG_IGN)) for way in ways})
    result |= {"machine": describe_machine(torch.device("cpu")), "complete": False, "failed": processes.failed}
    try:
        yield processes
        result["complete"] = True
    except KeyboardInterrupt:
        print("interrupted: the result is not complete", flush=True)
    finally:
        for worker in processes.workers.values():
            worker.shutdown(wait=False, cancel_futures=True)
        if path is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(without_nan(result), indent=1) + "\n")
            print(f"written: {path}", flush=True)


def time_frames(folder: Path, ways: list[str], rounds: int, minutes: float, path: Path | None) -> None:
    """Run a frame of each way in turn, after one for warming up: one round, and more if they fit into the time."""
    frames: dict[str, list[Frame]] = {way: [] for way in ways}
    result: dict[str, Any] = {"image_hw": IMAGE_HW, "frames": {}}
    begin = time.perf_counter()
    with recording(ways, path, result) as processes:
        for index in range(rounds + 1):
            round_s = 0.0
            for way, frame in processes.each(run_frame, folder):
                round_s += frame.seconds
                if index:
                    frames[way].append(frame)
                    result["frames"][way] = [asdict(each) for each in frames[way]]
                else:
                    print(f"{way}: ready, first frame {frame.seconds:.2f} s", flush=True)
            if index:
                print_times(frames)
            if 1 <= index < rounds and time.perf_counter() - begin + round_s > 60 * minutes:
                print(f"no time for another round within {minutes:g} minutes", flush=True)
                break


def print_times(frames: dict[str, list[Frame]]) -> None:
    print(f"\n{IMAGE_HW[1]}×{IMAGE_HW[0]}, medians        frames  seconds   CPU s  peak MiB")
    for way, results in frames.items():
        if results:
            columns = zip(*((each.seconds, each.cpu_seconds, each.peak_mib) for each in results), strict=True)
            seconds, cpu_seconds, peak_mib = map(statistics.median, columns)
            print(f"{way:24}{len(results):6}{seconds:9.2f}{cpu_seconds:8.2f}{peak_mib:10.0f}", flush=True)


def measure_auprc(folder: Path, ways: list[str], data: list[Path], every: int, path: Path | None) -> None:
    """Score every n-th labelled image of each set, by each way in turn."""
    from eomt_ext_core.datasets import open_datasets

    result: dict[str, Any] = {"auprc": {}}
    datasets = [dataset for each in data for dataset in open_datasets(each)]
    with recording(ways, path, result) as processes:
        for dataset in datasets:
            samples = [sample for sample in dataset.samples if sample.label_path is not None][::every]
            for sample in samples:
                for _ in processes.each(add_image, folder, dataset.name, *dataset.read(sample)):
                    pass
            found = dict(processes.each(auprc_of, dataset.name, named=False))
            result["auprc"][dataset.name] = {"images": len(samples)} | found
            told = ", ".join(f"{way} {100 * auprc:.2f}" for way, auprc in found.items())
            print(f"{dataset.name}, {len(samples)} images: {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("prepare")
    making.add_argument("model")
    making.add_argument("folder", type=Path)
    making.add_argument("--images", type=Path, required=True)
    timing, scoring = commands.add_parser("time"), commands.add_parser("auprc")
    for command in (timing, scoring):
        command.add_argument("folder", type=Path)
        command.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
        command.add_argument("--json", type=Path)
    timing.add_argument("--rounds", type=int, default=5)
    timing.add_argument("--minutes", type=float, default=15)
    scoring.add_argument("--data", type=Path, nargs="+", required=True)
    scoring.add_argument("--every", type=int, default=1, help="use every n-th image")
    given = parser.parse_args()
    if given.command == "prepare":
        prepare(given.model, given.folder, given.images)
    elif given.command == "time":
        time_frames(given.folder, given.ways, given.rounds, given.minutes, given.json)
    else:
        measure_auprc(given.folder, given.ways, given.data, given.every, given.json)


if __name__ == "__main__":
    main()
