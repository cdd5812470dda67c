"""Calls of the engine that outlive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, AnomalyFrame, ConfigError, ImageError, windows
from eomt_ext_core.config import EngineConfig
from eomt_ext_ros.node_config import NodeConfig

RETRY_PERIOD_S = 1.0
"""Between attempts while memory is short."""
REGROW_PERIOD_S = 60.0
"""After which a halved batch is tried in its full size again."""

Outcome = AnomalyFrame | Exception
OUT_OF_MEMORY = (torch.cuda.OutOfMemoryError, MemoryError)


class Engine(Protocol):
    """What is needed of :class:`~eomt_ext_core.engine.AnomalyEngine`."""

    config: EngineConfig

    @property
    def crop_hw(self) -> tuple[int, int]:
        """Size in pixels of a window."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the model's known classes, in the order of their ids; empty where the checkpoint names none."""

    @property
    def threshold(self) -> float:
        """The probability above which a pixel belongs to the mask."""

    def infer_batch(self, images_rgb: Sequence[NDArray[np.uint8]], *, semantic: bool = False) -> list[AnomalyFrame]:
        """A frame for each image."""

    def describe(self) -> dict[str, str]:
        """What runs where, for people."""

    def free_memory(self) -> None:
        """Give back memory that is held in reserve."""


EngineFactory = Callable[[NodeConfig], Engine]


def load_engine(config: NodeConfig) -> Engine:
    """The engine that the node's configuration describes.

    Raises:
        CheckpointError: where the checkpoint is missing, damaged or foreign.
        ConfigError: where the device is not there, or is a CPU and ``require_cuda`` is set.
    """
    device = config.engine.device
    if config.require_cuda:
        if config.engine.backend == "torch" and (device == "cpu" or not torch.cuda.is_available()):
            raise ConfigError(
                f"require_cuda needs a GPU, got device {device} and {torch.cuda.device_count()} CUDA devices that "
                "torch sees: look at the driver, or set require_cuda to false"
            )
        if config.engine.backend == "onnxruntime" and not device.startswith("cuda"):
            raise ConfigError(
                f"require_cuda with backend onnxruntime needs device cuda, got {device}, with which onnxruntime may "
                "run on the CPU"
            )
    return AnomalyEngine.load(config.checkpoint, config.engine, head=config.head or None)


class Inference:
    """Call an engine and answer for every image, with a frame or with the exception that took its place.

    An exception in a batch is narrowed down: each of its images is tried alone, so that one that cannot be used does
    not cost the others theirs. Out of memory, the engine's reserve is freed, the batch of windows halved and the call
    tried once more; where that fails too, the caller is to rest for ``rest_s`` between attempts, and each of them
    halves the batch again. The full size comes back by itself. Belongs to one thread.

    Attributes:
        error: what failed in the last call, none where it gave frames; an image that cannot be used is no failure.
        rest_s: seconds to rest before the next call, 0 but while memory is short.

    Args:
        engine: that is called.
        clock: steady, in seconds.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.error: Exception | None = None
        self.rest_s = 0.0
        self._clock = clock
        self._config = engine.config
        self._batch_limit: int | None = None
        self._regrow_at_s = 0.0

    @property
    def batch_windows(self) -> int:
        """Most windows that the network sees at a time, as configured or as far as memory reached."""
        configured = self._config.batch_windows
        return configured if self._batch_limit is None else min(configured, self._batch_limit)

    def describe(self) -> dict[str, str]:
        """The engine in words, and its batch."""
        configured = self._config.batch_windows
        short = f" instead of {configured}, as memory is short" if self.batch_windows < configured else ""
        return {**self.engine.describe(), "batch_windows": f"{self.batch_windows}{short}"}

    def configure(self, config: EngineConfig) -> None:
        """Let the engine run under another configuration; may be called by another thread."""
        self._config = config
        self.engine.config = replace(config, batch_windows=self.batch_windows)

    def infer(self, images_rgb: Sequence[NDArray[np.uint8]], *, semantic: bool = False) -> list[Outcome]:
        """An outcome for each image, in order; never raises an ``Exception``."""
        if not images_rgb:
            return []
        if self._batch_limit is not None and self._clock() >= self._regrow_at_s:
            self._limit_batch(None)
        outcomes = self._attempt(images_rgb, semantic)
        # Out here the exception's frames are gone, and with them what they held of the memory that is short.
        if _is_short(outcomes):
            self.engine.free_memory()
            self._halve(images_rgb)
            outcomes = self._attempt(images_rgb, semantic)
        self.rest_s = 0.0
        if _is_short(outcomes):
            self.engine.free_memory()
            self.rest_s = RETRY_PERIOD_S
        failure = _failure(outcomes)
        if failure is not None or any(isinstance(outcome, AnomalyFrame) for outcome in outcomes):
            self.error = failure
        return outcomes

    def _attempt(self, images_rgb: Sequence[NDArray[np.uint8]], semantic: bool) -> list[Outcome]:
        try:
            return list(self.engine.infer_batch(images_rgb, semantic=semantic))
        except OUT_OF_MEMORY as error:
            return [error.with_traceback(None)] * len(images_rgb)
        except Exception as error:
            if len(images_rgb) == 1:
                return [error]
        return [outcome for image in images_rgb for outcome in self._attempt([image], semantic)]

    def _halve(self, images_rgb: Sequence[NDArray[np.uint8]]) -> None:
        plans = [windows.plan(image.shape[:2], self.engine.crop_hw, self._config.windows) for image in images_rgb]
        seen = min(self.batch_windows, sum(plan.num_windows for plan in plans))
        self._limit_batch(max(1, seen // 2))
        self._regrow_at_s = self._clock() + REGROW_PERIOD_S

    def _limit_batch(self, most: int | None) -> None:
        self._batch_limit = most
        self.configure(self._config)


def _is_short(outcomes: list[Outcome]) -> bool:
    return any(isinstance(outcome, OUT_OF_MEMORY) for outcome in outcomes)


def _failure(outcomes: list[Outcome]) -> Exception | None:
    """The first exception that is not the fault of its image."""
    exceptions = (outcome for outcome in outcomes if isinstance(outcome, Exception))
    return next((error for error in exceptions if not isinstance(error, ImageError)), None)
