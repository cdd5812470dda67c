"""One model in every runtime, in turn on one CPU: seconds, memory, and AuPRC.

    python benchmarks/runtimes.py time model.safetensors --exported model.onnx --int8 model_int8.onnx
    python benchmarks/runtimes.py auprc demo --exported demo.onnx --int8 demo_int8.onnx --data FOLDER...

Each way has its own process. CPU seconds are printed too: on a busy machine only they compare.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

IMAGE_HW = (540, 960)
WAYS = ("literal fp32", "torch fp32", "torch bf16", "onnxruntime fp32", "openvino fp32", "openvino bf16",
        "onnxruntime int8", "openvino int8")  # fmt: skip


@cache
def engine(way: str, sources: tuple[str, str, str]) -> Any:
    from eomt_ext_core import AnomalyEngine, EngineConfig

    runtime, precision = way.split()
    source = sources[0 if runtime == "torch" else 2 if precision == "int8" else 1]
    return AnomalyEngine.load(source, EngineConfig("cpu", runtime, "auto" if precision == "int8" else precision))


@cache
def literal(source: str) -> Any:
    import torch

    from eomt_ext_core import load_model
    from eomt_ext_core.bench.variants.literal import LiteralPipeline

    return LiteralPipeline(load_model(source), torch.device("cpu"), bf16=False)


def run(way: str, sources: tuple[str, str, str]) -> tuple[float, float, float]:
    """Give seconds, CPU seconds, and the peak of the process in MB, of one frame."""
    import torch

    from eomt_ext_core.bench.clock import StageClock

    image = np.random.default_rng(0).integers(0, 256, (*IMAGE_HW, 3), dtype=np.uint8)
    subject = literal(sources[0]) if way.startswith("literal") else engine(way, sources)
    wall, cpu = time.perf_counter(), time.process_time()
    if way.startswith("literal"):
        subject.run(image, StageClock(torch.device("cpu")))
    else:
        subject.infer(image)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return time.perf_counter() - wall, time.process_time() - cpu, peak_mb


def time_frames(sources: tuple[str, str, str], ways: list[str], rounds: int) -> None:
    context = multiprocessing.get_context("spawn")
    workers = {way: ProcessPoolExecutor(1, mp_context=context) for way in ways}
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for index in range(rounds + 1):  # the first is for warming up
        for way, worker in workers.items():
            result = worker.submit(run, way, sources).result()
            if index:
                found[way].append(result)
    for worker in workers.values():
        worker.shutdown()
    print(f"{IMAGE_HW[1]}×{IMAGE_HW[0]}, medians of {rounds}: seconds, CPU seconds, peak MB of the process")
    for way, results in found.items():
        print(f"{way:18}", *(f"{statistics.median(column):8.2f}" for column in zip(*results, strict=True)))


def measure_auprc(sources: tuple[str, str, str], ways: list[str], folders: list[Path], every: int) -> None:
    from eomt_ext_core.datasets import open_datasets
    from eomt_ext_core.evaluation import PixelMetrics

    for folder in folders:
        for dataset in open_datasets(folder):
            samples, metrics = dataset.samples[::every], {way: PixelMetrics() for way in ways}
            for sample in samples:
                image, labels = dataset.read(sample)
                assert labels is not None
                for way in ways:
                    metrics[way].update(engine(way, sources).score_maps(image, ("head",))["head"], labels)
            told = ", ".join(f"{way} {100 * counted.compute().auprc:.2f}" for way, counted in metrics.items())
            print(f"{dataset.name}, {len(samples)} images: {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "auprc"])
    parser.add_argument("checkpoint")
    parser.add_argument("--exported", required=True)
    parser.add_argument("--int8", required=True)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    sources, ways = (given.checkpoint, given.exported, given.int8), given.ways.split(",")
    if given.what == "time":
        time_frames(sources, ways, given.rounds)
    else:
        measure_auprc(sources, [way for way in ways if "literal" not in way], given.data, given.every)


if __name__ == "__main__":
    main()
