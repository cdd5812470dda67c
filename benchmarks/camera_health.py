"""How many faults of a camera are found, how soon, and how often a camera that is well is blamed.

``python benchmarks/camera_health.py --drives 20 --clean-frames 2000 --shared ../shared``. Faults are put into drawn
drives at 15 Hz; each must be found under its name within a second. Clean images are drawn drives, and with ``--shared``
the photographs and videos of that folder: a photograph as a live camera that stands still would see it, with noise of
its own in each image; a folder of images as a drive at one image a second.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.health import CameraJudge, HealthConfig
from eomt_ext_core.images import VideoReader, list_images, read_rgb
from eomt_ext_core.scenes import SceneConfig, SceneVideo
from eomt_ext_core.scenes.faults import FAULT_KINDS, CameraFault

Image = NDArray[np.uint8]

CALLED = {"frozen_encoded": "frozen", "covered": "no_detail", "fogged": "no_detail", "blurred": "no_detail"}
ALSO_RIGHT = {"covered": {"black"}}  # a cover may let no light through
RATE_HZ = 15.0
FRAMES_BEFORE, FRAMES_AFTER = 12, 16
STILL_FRAMES, STILL_NOISE = 12, 1.0


def found_after_s(kind: str, seed: int, size_hw: tuple[int, int]) -> float | None:
    """Give the seconds from a fault's first image until it is reported; None if that takes more than a second."""
    video = SceneVideo(seed, SceneConfig(size_hw=size_hw), fps=RATE_HZ)
    fault, judge, config = CameraFault(kind, seed, FRAMES_BEFORE), CameraJudge(), HealthConfig()
    names = {CALLED.get(kind, kind), *ALSO_RIGHT.get(kind, ())}
    for index in range(FRAMES_BEFORE + FRAMES_AFTER):
        image, stamp_s = fault.put_into(video.frame(index).image_rgb, index), index / RATE_HZ
        health = judge.look(image, stamp_s, config)
        if index >= FRAMES_BEFORE and names & {item.kind for item in health.faults}:
            return (index - FRAMES_BEFORE) / RATE_HZ
    return None


def drawn_drives(count: int, frames: int, size_hw: tuple[int, int]) -> Iterator[tuple[str, Iterator[Image]]]:
    """Give clean drives by name."""
    for seed in range(count):
        video = SceneVideo(20_000_000 + seed, SceneConfig(size_hw=size_hw), fps=RATE_HZ)
        yield f"drive {seed}", (video.frame(index).image_rgb for index in range(frames))


def still(image_rgb: Image, seed: int) -> Iterator[Image]:
    """Give a photograph as a camera that stands still sees it."""
    rng = np.random.default_rng(seed)
    for _ in range(STILL_FRAMES):
        noise = rng.standard_normal(image_rgb.shape, np.float32) * STILL_NOISE
        yield np.clip(np.rint(image_rgb + noise), 0, 255).astype(np.uint8)


def real_images(shared: Path) -> Iterator[tuple[str, Iterator[Image], float]]:
    """Give sequences by name, with their rate in Hz."""
    for folder in (shared / "road_frames", *sorted((shared / "real_frames").glob("*/images"))):
        for seed, path in enumerate(list_images(folder)):
            yield str(path), still(read_rgb(path), seed), RATE_HZ
    for path in sorted((shared / "road_frames").glob("*.mp4")):
        with VideoReader(path) as video:
            yield str(path), iter(video), video.rate_hz
    for folder in sorted((shared / "camvid").glob("*/images")):
        paths = list_images(folder)
        for drive in sorted({path.name[:6] for path in paths}):
            yield f"{folder} {drive}", (read_rgb(path) for path in paths if path.name.startswith(drive)), 1.0


def false_alarms(images: Iterable[Image], rate_hz: float) -> tuple[set[str], int]:
    """Give the kinds of fault that are reported of a camera that is well, and the number of images."""
    judge, config, kinds, count = CameraJudge(), HealthConfig(), set[str](), 0
    for count, image in enumerate(images, start=1):
        kinds |= {item.kind for item in judge.look(image, count / rate_hz, config).faults}
    return kinds, count


def time_of_look_ms() -> float:
    """Give the median time of a look at a 1080p image, on one thread."""
    rng, judge, config = np.random.default_rng(0), CameraJudge(), HealthConfig()
    images = [rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8) for _ in range(4)]
    times = []
    for index in range(200):
        started_s = time.perf_counter()
        judge.look(images[index % 4], index / RATE_HZ, config)
        times.append(time.perf_counter() - started_s)
    return float(np.median(times)) * 1e3


def main() -> None:
    """Measure, and print a line for each kind of fault and each false alarm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drives", type=int, default=10, help="with each kind of fault")
    parser.add_argument("--kinds", nargs="*", default=list(FAULT_KINDS), choices=FAULT_KINDS)
    parser.add_argument("--clean-frames", type=int, default=1000)
    parser.add_argument("--frames-per-drive", type=int, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=(270, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--shared", type=Path, help="folder with real images")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    size_hw = (args.size[0], args.size[1])
    print(f"a look at a 1080p image: {time_of_look_ms():.2f} ms")

    found, tried = Counter[str](), Counter[str]()
    for kind in args.kinds:
        times = [found_after_s(kind, seed, size_hw) for seed in range(args.drives)]
        in_time = sorted(each for each in times if each is not None and each <= 1.0)
        found[kind], tried[kind] = len(in_time), len(times)
        missed = [seed for seed, each in enumerate(times) if each is None or each > 1.0]
        latest = f", the latest after {in_time[-1]:.2f} s" if in_time else ""
        print(f"{kind}: {len(in_time)} of {len(times)} within 1 s{latest}; missed in {missed}", flush=True)
    if tried:
        print(f"all: {found.total()} of {tried.total()} ({found.total() / tried.total():.1%})")

    drives = drawn_drives(args.clean_frames // args.frames_per_drive, args.frames_per_drive, size_hw)
    _blame("drawn", ((name, images, RATE_HZ) for name, images in drives))
    if args.shared is not None:
        _blame("real", real_images(args.shared))


def _blame(what: str, sequences: Iterable[tuple[str, Iterator[Image], float]]) -> None:
    alarms = total = 0
    for name, images, rate_hz in sequences:
        kinds, count = false_alarms(images, rate_hz)
        alarms, total = alarms + len(kinds), total + count
        if kinds:
            print(f"false alarm: {', '.join(sorted(kinds))} in {name}", flush=True)
    print(f"{what}: {alarms} false alarms in {total} images", flush=True)


if __name__ == "__main__":
    main()
