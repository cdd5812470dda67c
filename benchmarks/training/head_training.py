"""Time and memory of training the anomaly head: cached outputs and the factored head against the reference way.

The reference runs the backbone in every step and the literal head on an (H, W, 4 + C) tensor. Each variant
runs in its own process, on the same images and with the same initial head, in float32.

    python benchmarks/training/head_training.py [--images 2] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WAYS = ("reference", "cached, all pixels", "cached, sampled pixels")
CROP_HW = (640, 640)
PIXELS_PER_CROP = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2, help="images of an epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args.images, args.threads, args.folder)))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in ("prepare", *WAYS):
            command = [sys.executable, __file__, "--way", way, "--folder", folder]
            command += ["--images", str(args.images), "--threads", str(args.threads)]
            # threads that wait asleep, so that CPU time counts work alone
            environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(args.threads)}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            rows[way] = json.loads(done.stdout.splitlines()[-1])
            print(f"{way}: {rows[way]}", file=sys.stderr, flush=True)
    report(rows, args)


def measure(way: str, num_images: int, threads: int, folder: Path) -> dict[str, float]:
    import torch
    from eomt_ext_training.data.scenes import ProceduralScenes
    from eomt_ext_training.head.feature_cache import CacheSettings, FeatureCache
    from torch.utils.data import DataLoader

    from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = ModelConfig("vit_base_patch14_reg4_dinov2", CROP_HW)
    model = EoMTExt(config, HeadConfig(feature_proj_dim=None)).train()
    scenes = ProceduralScenes(CROP_HW, num_images, image_hw=(720, 1280), rendered=folder)
    settings = CacheSettings(folder / "features", batch_size=1, bf16=False)
    if way == "prepare":
        cache = FeatureCache(model.network, scenes, settings)
        wall, cpu = time.perf_counter(), time.process_time()
        list(cache.compute(model.network, cache.missing()))
        stored = sum(path.stat().st_size for path in cache.folder.iterdir())
        return {
            "wall_s_per_image": (time.perf_counter() - wall) / num_images,
            "cpu_s_per_image": (time.process_time() - cpu) / num_images,
            "mb_per_image": stored / num_images / 1e6,
        }
    step = make_step(way, model)
    if way == "reference":
        loader = DataLoader(scenes, batch_size=1)
    else:
        loader = DataLoader(FeatureCache(model.network, scenes, settings), batch_size=1)
        del model.network  # a head epoch does not need it
    batch = next(iter(loader))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = status_mb("VmRSS")
    step(batch)  # not timed
    peak = status_mb("VmHWM")
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in loader:
        step(batch)
    return {
        "epoch_wall_s": time.perf_counter() - wall,
        "epoch_cpu_s": time.process_time() - cpu,
        "step_peak_mb": peak - before,
        "process_peak_mb": peak,
    }


def make_step(way: str, model) -> Callable:
    """One optimizer step on a batch, as each way does it."""
    import torch
    from eomt_ext_training.head.factored_loss import loss_on_all_pixels, loss_on_pixels
    from eomt_ext_training.head.losses import anomaly_loss, count_valid
    from eomt_ext_training.head.pixel_sampling import draw_pixels

    from eomt_ext_core import Prediction

    head, generator = model.anomaly_head, torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-4)

    def loss_of(batch):
        if way == "reference":
            with torch.no_grad():
                prediction = model(batch.image.float() / 255)
            parts = prediction.mask_logits, prediction.class_logits, CROP_HW, prediction.features
            return anomaly_loss(model.compute_anomaly_score(*parts)[..., 0], batch.labels, 10.0)
        prediction = Prediction(batch.mask_logits, batch.class_logits, batch.features)
        num_valid = float(count_valid(batch.labels))
        if way == "cached, all pixels":
            return loss_on_all_pixels(head, prediction, batch.labels, 10.0, num_valid)
        pixels = draw_pixels(batch.labels, PIXELS_PER_CROP, balanced=True, generator=generator)
        return loss_on_pixels(head, prediction, CROP_HW, pixels, 10.0, num_valid)

    def step(batch) -> None:
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def report(rows: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    reference = rows["reference"]
    title = f"head epoch of {args.images} crops, ViT-B, 640×640, {args.threads} threads of {os.cpu_count()} cores"
    table = Table(title=title)
    for column in ("way", "epoch, s", "faster", "CPU, s", "less CPU", "step peak, MB", "of the reference"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in WAYS:
        row = rows[way]
        row["speedup_wall"] = reference["epoch_wall_s"] / row["epoch_wall_s"]
        row["speedup_cpu"] = reference["epoch_cpu_s"] / row["epoch_cpu_s"]
        row["memory_ratio"] = row["step_peak_mb"] / reference["step_peak_mb"]
        table.add_row(
            way,
            f"{row['epoch_wall_s']:.2f}",
            f"{row['speedup_wall']:.1f}×",
            f"{row['epoch_cpu_s']:.2f}",
            f"{row['speedup_cpu']:.1f}×",
            f"{row['step_peak_mb']:.0f}",
            f"{row['memory_ratio']:.3f}",
        )
    console = Console(width=110)
    console.print(table)
    once = rows["prepare"]
    console.print(
        f"frozen outputs, once: {once['wall_s_per_image']:.2f} s and {once['mb_per_image']:.1f} MB for each image; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
