"""The engine that the node runs: what it needs of one, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, AnomalyFrame, ConfigError
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.loading import choose_backend
from eomt_ext_core.normality.normality import Normality
from eomt_ext_ros.parameters.node_config import NodeConfig


class Engine(Protocol):
    """What is needed of :class:`~eomt_ext_core.engine.AnomalyEngine`."""

    @property
    def crop_hw(self) -> tuple[int, int]:
        """Height and width of a window, in pixels."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the model's semantic classes, in the order of their ids; empty if the checkpoint names none."""

    @property
    def fitting_windows(self) -> int | None:
        """Most windows that fitted in memory at a time when it was warmed up; None for as many as configured."""

    def checked(self, config: EngineConfig) -> EngineConfig:
        """Give back a configuration that it can run under; any other is refused by a ``ConfigError``."""

    def threshold_of(self, config: EngineConfig) -> float:
        """The probability above which a pixel belongs to the mask."""

    def batch_windows_of(self, config: EngineConfig) -> int:
        """Most windows that go through the network at a time."""

    @property
    def normality(self) -> Normality | None:
        """What a drive taught it; None without."""

    @property
    def has_semantic(self) -> bool:
        """Whether it can give the semantic class of each pixel."""

    def infer_batch(
        self, images_rgb: Sequence[NDArray[np.uint8]], *, semantic: bool = False, config: EngineConfig | None = None
    ) -> list[AnomalyFrame]:
        """Give a frame for each image under a configuration."""

    def describe(self, config: EngineConfig) -> dict[str, str]:
        """Describe to people what runs where."""

    def free_memory(self) -> None:
        """Free the memory that is held in reserve."""


EngineFactory = Callable[[NodeConfig], Engine]


def load_engine(config: NodeConfig) -> Engine:
    """Load the engine that the node's configuration describes.

    Raises:
        CheckpointError: if the checkpoint is missing, damaged or foreign.
        ConfigError: if the device is not there, or is a CPU and ``require_cuda`` is set.
    """
    device = config.engine.device
    if config.require_cuda:
        backend = choose_backend(config.engine.backend, config.checkpoint)
        if backend == "openvino":
            raise ConfigError("require_cuda needs another backend than openvino, which has no CUDA")
        if backend == "torch" and (device == "cpu" or not torch.cuda.is_available()):
            raise ConfigError(
                f"require_cuda needs a GPU, got device {device} and {torch.cuda.device_count()} CUDA devices that "
                "torch sees: look at the driver, or set require_cuda to false"
            )
        if backend == "onnxruntime" and not device.startswith("cuda"):
            raise ConfigError(
                f"require_cuda with backend onnxruntime needs device cuda, got {device}, with which onnxruntime may "
                "run on the CPU"
            )
    engine = AnomalyEngine.load(
        config.checkpoint,
        config.engine,
        head=config.head or None,
        normality=config.normality or None,
        download=False,
    )
    if config.obstacles.region == "drivable" and engine.has_semantic:  # without, the node refuses the region
        engine.warm_up(semantic=True)
    return engine
