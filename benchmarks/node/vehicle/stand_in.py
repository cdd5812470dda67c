"""The node with an engine that takes a constant time and knows no road: a program.

python -m vehicle.stand_in SECONDS [--ros-args …]
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame
from eomt_ext_core.config import EngineConfig
from eomt_ext_ros.node import AnomalyNode, main
from eomt_ext_ros.parameters.node_config import NodeConfig

THRESHOLD = 0.5


class StandIn:
    """Answers a batch of any size after ``seconds``, which cost the host nothing, with the same dozen anomalies."""

    crop_hw = (640, 640)
    class_names = ("road", "car")
    has_semantic = True
    fitting_windows = None
    most_in_flight = 2
    images_hw = ()

    def __init__(self, config: NodeConfig, seconds: float) -> None:
        self._seconds, self._done_s = seconds, 0.0

    def checked(self, config: EngineConfig) -> EngineConfig:
        return config

    def threshold_of(self, config: EngineConfig) -> float:
        return THRESHOLD

    def batch_windows_of(self, config: EngineConfig) -> int:
        return config.batch_windows

    def submit(
        self, images_rgb: Sequence[NDArray[np.uint8]], *, parts: Collection[str], config: EngineConfig
    ) -> tuple[float, list[AnomalyFrame]]:
        frames = [street(image.shape[:2]) for image in images_rgb]
        self._done_s = max(self._done_s, time.monotonic()) + self._seconds
        return self._done_s, frames

    def collect(self, batch: tuple[float, list[AnomalyFrame]]) -> list[AnomalyFrame]:
        done_s, frames = batch
        time.sleep(max(0.0, done_s - time.monotonic()))
        return frames

    def is_warm(self, config: EngineConfig, *, semantic: bool) -> bool:
        return True

    def warm_up(self, *, semantic: bool, config: EngineConfig) -> None:
        pass

    def prepare(self, images_hw: Sequence[tuple[int, int]], *, semantic: bool, config: EngineConfig) -> None:
        pass

    def describe(self, config: EngineConfig) -> dict[str, str]:
        return {"device": "cpu", "device_name": "none: a stand-in"}

    def free_memory(self) -> None:
        pass


@functools.cache
def street(size_hw: tuple[int, int]) -> AnomalyFrame:
    """Twelve soft spots on a dark ground."""
    height, width = size_hw
    random = np.random.default_rng(0)
    probability = np.full(size_hw, 0.02, np.float32)
    for _ in range(12):
        centre = int(random.integers(0, width)), int(random.integers(height // 2, height))
        cv2.circle(probability, centre, max(2, int(random.integers(height // 100, height // 16))), 0.9, -1)
    probability = np.asarray(cv2.GaussianBlur(probability, (15, 15), 0), np.float32)
    classes = np.zeros(size_hw, np.uint8)
    return AnomalyFrame(probability, probability > THRESHOLD, classes)


def make_factory(seconds: float) -> functools.partial[StandIn]:
    return functools.partial(StandIn, seconds=seconds)


if __name__ == "__main__":
    factory = make_factory(float(sys.argv.pop(1)))
    sys.exit(main(make_node=functools.partial(AnomalyNode, engine_factory=factory)))
