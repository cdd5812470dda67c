"""What scoring every 2nd or 4th pixel costs in AuPRC and saves in time: the demonstration model on drawn scenes.

The strides score each frame in turn, so that other load on the machine falls on all alike. Their times are CPU time of
one thread on a CPU, time until the result is there on a GPU.

    python benchmarks/score_stride.py [--frames 40] [--first-seed 900000] [--checkpoint demo] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.evaluation import PixelMetrics
from eomt_ext_core.files import atomic_write
from eomt_ext_core.scenes import SceneConfig, render_scene

STRIDES = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40, help="drawn scenes of 960×540")
    parser.add_argument("--first-seed", type=int, default=900_000, help="of the scenes; not among those trained on")
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.checkpoint)
    engines = {
        stride: AnomalyEngine(model, EngineConfig(device=args.device, score_stride=stride)) for stride in STRIDES
    }
    metrics = {stride: PixelMetrics() for stride in STRIDES}
    seconds: dict[int, list[float]] = {stride: [] for stride in STRIDES}
    clock = time.process_time if engines[1].device.type == "cpu" else time.perf_counter
    config = SceneConfig(obstacle_probability=1.0)
    console = Console()
    for index in track(range(args.frames), "frames", console=console):
        scene = render_scene(args.first_seed + index, config)
        for stride, engine in engines.items():
            start = clock()
            probability = engine.infer(scene.image_rgb).probability
            seconds[stride].append(clock() - start)
            metrics[stride].update(probability, scene.labels)
    rows = []
    for stride in STRIDES:
        found = metrics[stride].compute()
        median_s = statistics.median(seconds[stride])
        rows.append({"score_stride": stride, "auprc": found.auprc, "fpr95": found.fpr95, "median_s": median_s})
    report(console, rows, args.frames)
    if args.json:
        with atomic_write(args.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def report(console: Console, rows: list[dict[str, float]], num_frames: int) -> None:
    table = Table(title=f"{num_frames} drawn frames", title_justify="left", box=None, pad_edge=False)
    for column in ("score_stride", "AuPRC, %", "lost", "FPR95, %", "ms/frame", "of stride 1"):
        table.add_column(column, justify="right")
    full = rows[0]
    for row in rows:
        table.add_row(
            f"{row['score_stride']}",
            f"{100 * row['auprc']:.2f}",
            f"{100 * (full['auprc'] - row['auprc']):.2f}",
            f"{100 * row['fpr95']:.2f}",
            f"{1000 * row['median_s']:.0f}",
            f"{100 * row['median_s'] / full['median_s']:.0f} %",
        )
    console.print(table)


if __name__ == "__main__":
    main()
