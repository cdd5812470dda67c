"""Calls of the engine that outlive its failures: out of memory, and whatever else it raises."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
"""After which a camera's batch that was halved is doubled."""

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


@dataclass
class _Share:
    """How much of a batch a camera's images may take.

    Attributes:
        windows: at most, the image being alone in its batch; none where it goes with the others, as configured.
        more_at_s: when it may take more.
        is_short: whether its last image was too much for memory.
    """

    windows: int | None = None
    more_at_s: float = math.inf
    is_short: bool = False


class Inference:
    """Call an engine and answer for the image of each camera, with a frame or with the exception that took its place.

    An exception in a batch is narrowed down: each of its images is tried alone, so that one that cannot be used does
    not cost the others theirs. Out of memory, the engine's reserve is freed and each image tried once more, alone and
    in batches of half as many windows. Where that fails too, the camera's next image halves them again, down to one
    window. An image that is too much even then fails without further ado, as freeing memory costs the other cameras
    their CUDA graphs. A minute after the last such step the camera's batches are doubled, and in the end its images go
    with the others again. Belongs to one thread.

    Args:
        engine: that is called.
        clock: steady, in seconds.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self._clock = clock
        self._shares: dict[str, _Share] = {}
        self._failures: dict[str, Exception] = {}

    @property
    def error(self) -> Exception | None:
        """What failed for a camera's last image, none where all have frames; an unusable image is no failure."""
        return next(iter(self._failures.copy().values()), None)  # diagnostics ask from another thread

    def forget_failures(self) -> None:
        """Begin anew, as when the node is activated; what memory allows is still known."""
        self._failures.clear()

    def describe(self) -> dict[str, str]:
        """The engine in words, and its batch: as configured or as far as memory reaches."""
        configured = self.engine.config.batch_windows
        shares = {camera: share.windows or configured for camera, share in self._shares.copy().items()}
        less = {camera: windows for camera, windows in shares.items() if windows < configured}
        batch = str(configured)
        if less:
            each = [f"{windows} for {camera}" if camera else str(windows) for camera, windows in less.items()]
            batch += f", but as memory is short {', '.join(each)}"
        return {**self.engine.describe(), "batch_windows": batch}

    def infer(
        self, images_rgb: Mapping[str, NDArray[np.uint8]], config: EngineConfig | None = None, *, semantic: bool = False
    ) -> dict[str, Outcome]:
        """An outcome for each camera's image, in order; what the engine raises for images is one.

        Args:
            images_rgb: each (H, W, 3) uint8, by camera.
            config: to run under instead of the engine's own.
            semantic: give the known class of each pixel too.
        """
        config = config or self.engine.config
        outcomes: dict[str, Outcome] = {}
        together, alone = dict[str, NDArray[np.uint8]](), list[dict[str, NDArray[np.uint8]]]()
        for camera, image in images_rgb.items():
            try:  # before the batch, which would fail as a whole, each time that such an image comes
                check_window_count(image.shape[:2], self.engine.crop_hw, config)
            except ImageError as error:
                outcomes[camera] = error
            else:
                if self._share_of(camera, config.batch_windows).windows is None:
                    together[camera] = image
                else:
                    alone.append({camera: image})
        for batch in filter(None, [together, *alone]):
            outcomes |= self._infer(batch, config, semantic)
        for camera, outcome in outcomes.items():
            if isinstance(outcome, AnomalyFrame):
                self._failures.pop(camera, None)
            elif not isinstance(outcome, ImageError):
                self._failures[camera] = outcome
        return {camera: outcomes[camera] for camera in images_rgb}

    def _infer(
        self, batch: Mapping[str, NDArray[np.uint8]], config: EngineConfig, semantic: bool
    ) -> dict[str, Outcome]:
        outcomes = self._attempt(batch, config, semantic)
        # Out here the exception's frames are gone, and with them what they held of the memory that is short.
        again = self._take_less(
            {camera: batch[camera] for camera in batch if is_short_of_memory(outcomes[camera])}, config
        )
        if again:
            self.engine.free_memory()
        for camera in again:
            outcomes |= self._attempt({camera: batch[camera]}, config, semantic)
        for camera, outcome in outcomes.items():
            self._shares[camera].is_short = is_short_of_memory(outcome)
        return outcomes

    def _attempt(
        self, batch: Mapping[str, NDArray[np.uint8]], config: EngineConfig, semantic: bool
    ) -> dict[str, Outcome]:
        most = (self._shares[camera].windows or config.batch_windows for camera in batch)
        limited = replace(config, batch_windows=min(config.batch_windows, *most))
        try:
            frames = self.engine.infer_batch(list(batch.values()), semantic=semantic, config=limited)
            return dict(zip(batch, frames, strict=True))
        except Exception as error:
            is_short = is_out_of_memory(error)
            if is_short:
                forget_frames(error)
            if is_short or len(batch) == 1:
                return dict.fromkeys(batch, error)
        outcomes: dict[str, Outcome] = {}
        for camera, image in batch.items():
            outcomes |= self._attempt({camera: image}, config, semantic)
        return outcomes

    def _take_less(self, short: Mapping[str, NDArray[np.uint8]], config: EngineConfig) -> list[str]:
        """Halve the batch that these images were too much in; returns the cameras for which it is worth trying again.

        That is where there is less to take, or where the last image did fit, so that freeing memory may help.
        """
        counts = [windows.count(image.shape[:2], self.engine.crop_hw, config.windows) for image in short.values()]
        tried, again = min(config.batch_windows, sum(counts)), []
        for camera in short:
            share = self._shares[camera]
            less = max(1, min(tried, share.windows or tried) // 2)
            if less != share.windows or not share.is_short:
                again.append(camera)
            share.windows, share.more_at_s = less, self._clock() + REGROW_PERIOD_S
        return again

    def _share_of(self, camera: str, configured: int) -> _Share:
        """Doubled where it is time to: alone up to the configured size, that only then others are taken along."""
        share = self._shares.setdefault(camera, _Share())
        if share.windows is not None and self._clock() >= share.more_at_s:
            share.windows = min(configured, 2 * share.windows) if share.windows < configured else None
            share.more_at_s = self._clock() + REGROW_PERIOD_S
        return share


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
