"""Calls of the engine that outlive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, AnomalyFrame, ConfigError, ImageError, windows
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.checks import check_window_count
from eomt_ext_ros.held_frames import forget_frames
from eomt_ext_ros.images import opencv_lacks_memory
from eomt_ext_ros.node_config import NodeConfig

RETRY_PERIOD_S = 1.0
"""For which a camera rests whose image is too much for memory."""
REGROW_PERIOD_S = 60.0
"""After which a batch that was halved is doubled."""

Outcome = AnomalyFrame | Exception
_MEMORY_IS_SHORT = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|ALLOC(ATION)?_FAILED", re.IGNORECASE
)


class Engine(Protocol):
    """What is needed of :class:`~eomt_ext_core.engine.AnomalyEngine`."""

    config: EngineConfig
    """Another thread may replace it; what does not go with the model is refused by a ``ConfigError``."""

    @property
    def crop_hw(self) -> tuple[int, int]:
        """Size in pixels of a window."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the model's known classes, in the order of their ids; empty where the checkpoint names none."""

    @property
    def threshold(self) -> float:
        """The probability above which a pixel belongs to the mask."""

    def threshold_of(self, config: EngineConfig) -> float:
        """The same under another configuration."""

    @property
    def has_semantic(self) -> bool:
        """Whether it can give the known class of each pixel."""

    def infer_batch(
        self, images_rgb: Sequence[NDArray[np.uint8]], *, semantic: bool = False, config: EngineConfig | None = None
    ) -> list[AnomalyFrame]:
        """A frame for each image; ``config`` is to run under instead of the engine's own."""

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
    tried once more; where that fails too, the images are tried one at a time, from then on. Each call that memory is
    short in halves the batch again, down to one window: an image that is too much even then fails without further ado
    while others fit. The full size comes back by itself, step by step. Belongs to one thread.

    Attributes:
        error: what failed in the last call, none where it gave frames; an image that cannot be used is no failure.

    Args:
        engine: that is called.
        clock: steady, in seconds.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.error: Exception | None = None
        self._clock = clock
        self._batch_limit: int | None = None
        self._one_by_one = False
        self._take_more_at_s = -math.inf
        self._gave_frames_at_s = -math.inf

    def describe(self) -> dict[str, str]:
        """The engine in words, and its batch: as configured or as far as memory reached."""
        configured = self.engine.config.batch_windows
        batch = str(self._within_limit(configured))
        if batch != str(configured):
            batch += f" instead of {configured}, as memory is short"
        if self._one_by_one:
            batch += ", one image at a time"
        return {**self.engine.describe(), "batch_windows": batch}

    def infer(
        self, images_rgb: Sequence[NDArray[np.uint8]], config: EngineConfig | None = None, *, semantic: bool = False
    ) -> list[Outcome]:
        """An outcome for each image, in order; what the engine raises for images is one.

        Args:
            images_rgb: each (H, W, 3) uint8.
            config: to run under instead of the engine's own.
            semantic: give the known class of each pixel too.
        """
        if not images_rgb:
            return []
        config = config or self.engine.config
        outcomes: dict[int, Outcome] = {}
        for index, image in enumerate(images_rgb):
            try:  # before the batch, which would fail as a whole, each time that such an image comes
                check_window_count(image.shape[:2], self.engine.crop_hw, config)
            except ImageError as error:
                outcomes[index] = error
        usable = [index for index in range(len(images_rgb)) if index not in outcomes]
        if usable:
            outcomes |= zip(usable, self._infer([images_rgb[index] for index in usable], config, semantic), strict=True)
        return [outcomes[index] for index in range(len(images_rgb))]

    def _infer(self, images_rgb: Sequence[NDArray[np.uint8]], config: EngineConfig, semantic: bool) -> list[Outcome]:
        self._take_more(config.batch_windows)
        outcomes = self._attempt(images_rgb, config, semantic)
        # Out here the exception's frames are gone, and with them what they held of the memory that is short.
        if _is_short(outcomes) and (self._take_less(images_rgb, config) or not self._others_fit(outcomes)):
            del outcomes
            self.engine.free_memory()
            outcomes = self._attempt(images_rgb, config, semantic)
            if _is_short(outcomes) and len(images_rgb) > 1 and not self._one_by_one:
                self._one_by_one = True
                outcomes = self._attempt(images_rgb, config, semantic)
        if _is_short(outcomes) and not self._others_fit(outcomes):
            self.engine.free_memory()
        failure, gave_frames = _failure(outcomes), _gave_frames(outcomes)
        if failure is not None or gave_frames:
            self.error = failure
        if gave_frames:
            self._gave_frames_at_s = self._clock()
        return outcomes

    def _attempt(self, images_rgb: Sequence[NDArray[np.uint8]], config: EngineConfig, semantic: bool) -> list[Outcome]:
        if len(images_rgb) == 1 or not self._one_by_one:
            limited = replace(config, batch_windows=self._within_limit(config.batch_windows))
            try:
                return list(self.engine.infer_batch(images_rgb, semantic=semantic, config=limited))
            except Exception as error:
                if is_out_of_memory(error):
                    forget_frames(error)
                    return [error] * len(images_rgb)
                if len(images_rgb) == 1:
                    return [error]
        return [outcome for image in images_rgb for outcome in self._attempt([image], config, semantic)]

    def _others_fit(self, outcomes: list[Outcome]) -> bool:
        """Whether other images fit, now or a moment ago: freeing memory would cost them their CUDA graphs."""
        return _gave_frames(outcomes) or self._clock() - self._gave_frames_at_s < RETRY_PERIOD_S

    def _within_limit(self, batch_windows: int) -> int:
        limit = self._batch_limit  # diagnostics ask from another thread
        return batch_windows if limit is None else min(batch_windows, limit)

    def _take_less(self, images_rgb: Sequence[NDArray[np.uint8]], config: EngineConfig) -> bool:
        """Halve the batch that there was; false where that changes nothing."""
        counts = [windows.count(image.shape[:2], self.engine.crop_hw, config.windows) for image in images_rgb]
        most = max(counts) if self._one_by_one else sum(counts)
        before, self._batch_limit = self._batch_limit, max(1, min(self._within_limit(config.batch_windows), most) // 2)
        self._take_more_at_s = self._clock() + REGROW_PERIOD_S
        return self._batch_limit != before

    def _take_more(self, configured: int) -> None:
        """Double the batch when it is time to, until it is what it was: too much of that costs one attempt."""
        if self._batch_limit is None or self._clock() < self._take_more_at_s:
            return
        self._take_more_at_s = self._clock() + REGROW_PERIOD_S
        self._batch_limit *= 2
        if self._batch_limit >= configured:
            self._batch_limit, self._one_by_one = None, False


def free_gpu_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for a model that is gone."""
    with suppress(RuntimeError):  # a GPU that is lost says so when it is used next
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was short, on the GPU or on the host; CUDA's libraries have no exception of their own for it."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, cv2.error):
        return opencv_lacks_memory(error)
    return isinstance(error, RuntimeError) and _MEMORY_IS_SHORT.search(str(error)) is not None


def is_short_of_memory(outcome: Outcome) -> bool:
    """Whether an image was too much for memory."""
    return isinstance(outcome, Exception) and is_out_of_memory(outcome)


def _is_short(outcomes: list[Outcome]) -> bool:
    return any(map(is_short_of_memory, outcomes))


def _gave_frames(outcomes: list[Outcome]) -> bool:
    return any(isinstance(outcome, AnomalyFrame) for outcome in outcomes)


def _failure(outcomes: list[Outcome]) -> Exception | None:
    """The first exception that is not the fault of its image."""
    exceptions = (outcome for outcome in outcomes if isinstance(outcome, Exception))
    return next((error for error in exceptions if not isinstance(error, ImageError)), None)
