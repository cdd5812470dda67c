"""What following obstacles does to flicker and false obstacles: listed per frame, and with ``confirmed_only``.

On drives through drawn scenes, whose obstacles are known one by one, and on a video of a road on which nothing lies, so
that every obstacle in it is false. An obstacle counts if 50 of its pixels or more are visible, and is found if the box
of a listed obstacle covers a fifth of them; a listed obstacle is false if its box holds no pixel of any. The overlap is
that of the best box with the box around the visible pixels (intersection over union), where both ways find it.

    python benchmarks/flicker.py --seed 8000001 --drives 24 --video road.mp4 --store /tmp/flicker

The model runs once: ``--store`` keeps its probabilities, in 8 bits, and the truth.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.images import VideoReader
from eomt_ext_core.obstacles import Obstacle, find_obstacles
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, TEXTURE_FAMILIES
from eomt_ext_core.scenes.things.obstacles import SEEN_TO_M
from eomt_ext_core.scenes.world import OBSTACLE_STRETCH_M, World
from eomt_ext_core.tracking import Tracker, TrackingConfig

SIZE_HW, RATE_HZ = (540, 960), 15.0
VOID = 255
LEAST_PX, LEAST_COVER = 50, 0.2
LATE_FRAMES = 2

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Sequence:
    """(N, H, W) uint8: probabilities in 1/255, and which obstacle a pixel shows: 0 none, 255 void."""

    probability: Bytes
    truth: Bytes
    rate_hz: float


@dataclass
class Counts:
    """Of one way to list obstacles."""

    frames: int = 0
    seconds: float = 0.0
    listed: int = 0
    frames_with_any: int = 0
    number_changes: int = 0
    false: int = 0
    found: dict[tuple[str, int], list[bool]] = field(default_factory=dict)  # of an obstacle, while it is visible
    overlap: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def first(self, key: tuple[str, int]) -> int | None:
        return self.found[key].index(True) if any(self.found[key]) else None

    @property
    def changes_per_obstacle(self) -> float:
        """On to off and off to on, from the first time on."""
        changes = 0
        for key, seen in self.found.items():
            if (first := self.first(key)) is not None:
                changes += sum(before != after for before, after in zip(seen[first:], seen[first + 1 :], strict=False))
        return changes / max(1, sum(any(seen) for seen in self.found.values()))


def drive(seed: int, frames: int, engine: AnomalyEngine) -> Sequence:
    """The first frame is left out: some cars appear after it."""
    world = World(seed, SIZE_HW, 0.9, 4, OBSTACLE_FAMILIES, TEXTURE_FAMILIES)
    number_of: dict[int, int] = {}
    probabilities, truths = [], []
    for index in range(1, frames + 1):
        time_s = index / RATE_HZ
        s = world.street.speed_m_s * time_s
        image_rgb, labels, _, _ = world.render(s, time_s, index)
        camera, truth = world.camera(s, time_s), np.zeros(SIZE_HW, np.uint8)
        stretches = range(int(s // OBSTACLE_STRETCH_M), int((s + SEEN_TO_M) // OBSTACLE_STRETCH_M) + 1)
        ahead = [each for stretch in stretches for each in world.obstacles(stretch) if 1.5 < each.s - s < SEEN_TO_M]
        for each in sorted(ahead, key=lambda each: -each.s):
            x, half = float(camera.lateral(each.s, each.d)), 0.55 * each.width_m
            corners = camera.pixels([x - half, x + half], [1.05 * each.height_m, -0.05], each.s - s)
            (left, top), (right, bottom) = np.maximum([np.floor(corners[0]), np.ceil(corners[1]) + 1], 0).astype(int)
            truth[top:bottom, left:right] = number_of.setdefault(id(each), len(number_of) + 1)
        truth[labels != 1] = 0
        truth[labels == VOID] = VOID
        probabilities.append(np.rint(engine.infer(image_rgb).probability * 255).astype(np.uint8))
        truths.append(truth)
    return Sequence(np.stack(probabilities), np.stack(truths), RATE_HZ)


def video(path: Path, engine: AnomalyEngine) -> Sequence:
    with VideoReader(path) as frames:
        found = [np.rint(engine.infer(image_rgb).probability * 255).astype(np.uint8) for image_rgb in frames]
        return Sequence(np.stack(found), np.zeros_like(found), frames.rate_hz)


def stored(path: Path | None, make: Callable[..., Sequence], *arguments: Any) -> Sequence:
    if path is not None and path.exists():
        kept = np.load(path)
        return Sequence(kept["probability"], kept["truth"], float(kept["rate_hz"]))
    sequence = make(*arguments)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path, probability=sequence.probability, truth=sequence.truth, rate_hz=np.float64(sequence.rate_hz)
        )
    return sequence


def listings(sequence: Sequence, threshold: float, tracking: TrackingConfig | None) -> Iterator[list[Obstacle]]:
    tracker = Tracker()
    for index, levels in enumerate(sequence.probability):
        found = find_obstacles(levels.astype(np.float32) / 255, ObstacleConfig(), threshold=threshold)
        if tracking is not None:
            found = tracker.follow(found, index / sequence.rate_hz, tracking, threshold=threshold).confirmed()
        yield found.listed


def count(name: str, sequence: Sequence, threshold: float, tracking: TrackingConfig | None, counts: Counts) -> None:
    before = None
    counts.seconds += len(sequence.truth) / sequence.rate_hz
    for truth, listed in zip(sequence.truth, listings(sequence, threshold, tracking), strict=True):
        pixels = np.bincount(truth.ravel(), minlength=256)
        found: set[int] = set()
        for each in listed:
            left, top, width, height = each.box_xywh
            inside = truth[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
            covered = np.bincount(inside.ravel(), minlength=256)
            counts.false += not covered[1:].any()
            found |= set(np.flatnonzero(covered[:VOID] >= np.maximum(1, LEAST_COVER * pixels[:VOID])).tolist())
        for number in np.flatnonzero(pixels[1:VOID] >= LEAST_PX) + 1:
            counts.found.setdefault((name, int(number)), []).append(int(number) in found)
            best = overlap(listed, truth == number) if number in found else 0.0
            counts.overlap.setdefault((name, int(number)), []).append(best)
        counts.frames += 1
        counts.listed += len(listed)
        counts.frames_with_any += bool(listed)
        counts.number_changes += before is not None and before != len(listed)
        before = len(listed)


def overlap(listed: list[Obstacle], pixels: NDArray[np.bool_]) -> float:
    """The largest of a listed box with that around the pixels."""
    left, top, w, h = cv2.boundingRect(pixels.view(np.uint8))
    best = 0.0
    for x, y, width, height in (each.box_xywh for each in listed):
        across, down = min(x + width, left + w) - max(x, left), min(y + height, top + h) - max(y, top)
        shared = max(0, across) * max(0, down)
        best = max(best, shared / (width * height + w * h - shared))
    return best


def recall(counts: Counts, per_frame: Counts, after_frames: int | None = None) -> float:
    """Of the frames in which an obstacle is visible; or of those from so many after the first that per frame finds."""
    seen = []
    for key, each in counts.found.items():
        first = 0 if after_frames is None else per_frame.first(key)
        seen += [] if first is None else each[first + (after_frames or 0) :]
    return sum(seen) / max(1, len(seen))


def delays(counts: Counts, per_frame: Counts) -> list[int]:
    pairs = [(per_frame.first(key), counts.first(key)) for key in per_frame.found]
    return [after - before for before, after in pairs if before is not None and after is not None]


def show(title: str, per_frame: Counts, confirmed: Counts) -> None:
    print(f"\n{title}: {per_frame.frames} frames{'':12}{'per frame':>12}{'confirmed':>12}{'fewer':>9}")

    both = per_frame, confirmed

    def row(name: str, values: Iterable[float], form: str = ".1f", fewer: bool = True) -> None:
        before, after = values
        less = f"{1 - after / before:9.0%}" if fewer and before else ""
        print(f"  {name:44}{before:12{form}}{after:12{form}}{less}")

    row("obstacles a frame", (each.listed / each.frames for each in both), ".2f")
    row("frames with an obstacle", (each.frames_with_any / each.frames for each in both), ".0%", fewer=False)
    row("steps in which their number changes", (each.number_changes for each in both), "d")
    row("false obstacles a minute", (60 * each.false / each.seconds for each in both), ".0f")
    if not per_frame.found:
        return
    row("on/off changes of an obstacle", (each.changes_per_obstacle for each in both), ".2f")
    row("recall of frames", (recall(each, per_frame) for each in both), ".3f", fewer=False)
    late = f"the same, from {LATE_FRAMES} after the first found on"
    row(late, (recall(each, per_frame, LATE_FRAMES) for each in both), ".3f", fewer=False)
    both_find = [
        pair
        for key in per_frame.overlap
        for pair in zip(per_frame.overlap[key], confirmed.overlap[key], strict=True)
        if all(pair)
    ]
    if both_find:
        overlaps = map(statistics.mean, zip(*both_find, strict=True))
        row("overlap of boxes, where both find it", overlaps, ".3f", fewer=False)
    num_found = (sum(any(seen) for seen in each.found.values()) for each in both)
    row(f"obstacles found, of {len(per_frame.found)}", num_found, "d", fewer=False)
    late_by = delays(confirmed, per_frame)
    if late_by:
        print(f"  delay in frames: median {statistics.median(late_by):g}, mean {statistics.mean(late_by):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--seed", type=int, default=8_000_001, help="of the first drive")
    parser.add_argument("--drives", type=int, default=24)
    parser.add_argument("--frames", type=int, default=90, help="of a drive")
    parser.add_argument("--video", type=Path, help="of a road on which nothing lies")
    parser.add_argument("--store", type=Path, help="folder for the model's probabilities")
    arguments = parser.parse_args()
    engine = AnomalyEngine.load(arguments.checkpoint)

    def kept(name: str) -> Path | None:
        return arguments.store / f"{name}.npz" if arguments.store else None

    seeds = range(arguments.seed, arguments.seed + arguments.drives)
    drives = [(str(seed), stored(kept(str(seed)), drive, seed, arguments.frames, engine)) for seed in seeds]
    parts = [("drawn drives", drives)]
    if arguments.video:
        parts.append((arguments.video.name, [("video", stored(kept("video"), video, arguments.video, engine))]))
    for title, sequences in parts:
        both = Counts(), Counts()
        for counts, tracking in zip(both, (None, TrackingConfig()), strict=True):
            for name, sequence in sequences:
                count(name, sequence, engine.threshold, tracking, counts)
        show(title, *both)


if __name__ == "__main__":
    main()
