"""Obstacles at 1920×1080: milliseconds, and beside the same by OpenCV's own statistics of components in the same run.

Everything works in one thread, and its CPU time is measured, so that other load on the machine has no effect.

    python benchmarks/obstacles.py
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.obstacles import Obstacle, ObstacleFrame, find_obstacles
from eomt_ext_core.tracking import Tracker, TrackingConfig

HEIGHT, WIDTH, THRESHOLD = 1080, 1920, 0.5
ROUNDS = 15


def street() -> NDArray[np.float32]:
    """A dozen blurred spots of up to 140 pixels on a noisy ground."""
    random = np.random.default_rng(0)
    ground = cv2.resize(random.random((9, 16), np.float32) * 0.3, (WIDTH, HEIGHT))
    for _ in range(12):
        centre = int(random.integers(100, 1800)), int(random.integers(500, 1000))
        cv2.circle(ground, centre, int(random.integers(10, 70)), 0.9, -1)
    noise = random.normal(0, 0.01, ground.shape)
    return np.clip(cv2.GaussianBlur(ground, (15, 15), 0) + noise, 0, 1).astype(np.float32)


def worst_cases() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(1)
    dots = np.zeros((HEIGHT, WIDTH), np.float32)
    dots[::2, ::2] = 0.9
    return {
        "every pixel": np.full((HEIGHT, WIDTH), 0.9, np.float32),
        "518,400 lone pixels": dots,
        "noise, half": random.random((HEIGHT, WIDTH), np.float32),
        "noise, a quarter": random.random((HEIGHT, WIDTH), np.float32) * np.float32(2 / 3),
    }


def by_opencv(probability: NDArray[np.float32], config: ObstacleConfig) -> NDArray[np.bool_]:
    """The mask of the same components, with neither scores nor hysteresis."""
    mask = (probability > THRESHOLD).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= config.min_area_px
    kept[0] = False
    return np.asarray(kept[labels])


def following() -> Callable[[], Any]:
    """Follow a frame more each time, of 20 obstacles that move; every 5th is missed in each."""
    mask, tracker, config = np.zeros((HEIGHT, WIDTH), np.bool_), Tracker(), TrackingConfig()
    numbers = itertools.count()

    def follow() -> None:
        k = next(numbers)
        boxes = [(90 * i + k % 60, 20 * i + k % 60, 40, 30) for i in range(20) if (i + k) % 5]
        found = ObstacleFrame(mask, [Obstacle(0.9, box, 900, (0.0, 0.0)) for box in boxes], 0)
        tracker.follow(found, k / 15, config)

    for _ in range(30):
        follow()
    return follow


def cpu_ms(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return statistics.median(taken) * 1e3


def main() -> None:
    cv2.setNumThreads(1)
    semantic = np.full((HEIGHT, WIDTH), 1, np.uint8)
    semantic[500:] = 0
    semantic[600:700, 300:400] = 2
    names = ("road", "sky", "car")
    plain, pixels = ObstacleConfig(), ObstacleConfig(min_area_px=1)
    cases = [
        ("street", street(), plain),
        ("street, hysteresis", street(), ObstacleConfig(threshold_low=0.4)),
        ("street, polygon", street(), ObstacleConfig(region="polygon", polygon=(0, 1, 0.3, 0.4, 0.7, 0.4, 1, 1))),
        ("street, drivable", street(), ObstacleConfig(region="drivable")),
        *((name, probability, pixels) for name, probability in worst_cases().items()),
    ]
    print(f"{'':24}{'ours':>9}{'OpenCV':>9}{'ratio':>8}  in mask")
    for name, probability, config in cases:
        found = find_obstacles(probability, config, threshold=THRESHOLD, semantic=semantic, class_names=names)
        if (config.region, config.threshold_low) == ("everywhere", -1.0):
            assert np.array_equal(found.mask, by_opencv(probability, config))
        ours = cpu_ms(
            lambda p=probability, c=config: find_obstacles(  # type: ignore[misc]
                p, c, threshold=THRESHOLD, semantic=semantic, class_names=names
            )
        )
        theirs = cpu_ms(lambda p=probability, c=config: by_opencv(p, c))  # type: ignore[misc]
        count = len(found.obstacles) + found.unlisted
        print(f"{name:24}{ours:6.1f} ms{theirs:6.1f} ms{ours / theirs:8.2f}  {count}")
    print(f"{'following 20 obstacles':24}{cpu_ms(following()):6.2f} ms")


if __name__ == "__main__":
    main()
