"""The engine that the node runs: what it needs of one, and how it is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core import AnomalyEngine, AnomalyFrame, ConfigError
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine.frame import Part, SubmittedBatch
from eomt_ext_core.engine.loading import choose_backend
from eomt_ext_core.normality.normality import Normality
from eomt_ext_ros.parameters.node_config import NodeConfig

_log = logging.getLogger(__name__)


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

    @property
    def most_in_flight(self) -> int:
        """How many batches to submit before the first is collected: more of them gain nothing."""

    def submit(
        self, images_rgb: Sequence[NDArray[np.uint8]], *, parts: Collection[Part], config: EngineConfig
    ) -> SubmittedBatch:
        """Begin with a batch under a configuration; ``parts`` are what its frames hold."""

    def collect(self, batch: SubmittedBatch) -> list[AnomalyFrame]:
        """Wait for a frame for each image of a batch."""

    def describe(self, config: EngineConfig) -> dict[str, str]:
        """Describe to people what runs where."""

    def is_warm(self, config: EngineConfig, *, semantic: bool) -> bool:
        """Whether there is nothing for :meth:`warm_up` to do."""

    def warm_up(self, *, semantic: bool, config: EngineConfig) -> None:
        """Do now what is done once for images under a configuration, with semantic classes or without."""

    @property
    def images_hw(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths of the images of the last batch."""

    def prepare(self, images_hw: Sequence[tuple[int, int]], *, semantic: bool, config: EngineConfig) -> None:
        """Make now what the first batch of images of these sizes would make."""

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
            raise ConfigError(
                "require_cuda needs backend torch or onnxruntime, got openvino, which has no CUDA: choose one of them, "
                "or set require_cuda to false"
            )
        if backend == "torch" and (device == "cpu" or not torch.cuda.is_available()):
            raise ConfigError(
                f"require_cuda needs a GPU, got device {device} and {torch.cuda.device_count()} CUDA devices that "
                "torch sees: look at the driver, or set require_cuda to false"
            )
        if backend == "onnxruntime" and not device.startswith("cuda"):
            raise ConfigError(
                f"require_cuda with backend onnxruntime needs device cuda, got {device}, with which onnxruntime may "
                "run on the CPU: set device to cuda, or require_cuda to false"
            )
    engine = AnomalyEngine.load(
        config.checkpoint,
        config.engine,
        head=config.head or None,
        normality=config.normality or None,
        most_images=max(1, len(config.cameras)),
        download=False,
    )
    if _needs_semantic(engine, config):
        engine.warm_up(semantic=True)
        if not engine.is_warm(config.engine, semantic=False):  # memory was short, and all that was captured is freed
            engine.warm_up()
    return engine


def is_warm(engine: Engine, config: NodeConfig, *, semantic: bool = False) -> bool:
    """Whether images are as fast under a configuration as they can be, with semantic classes too if they are wanted."""
    return all(engine.is_warm(config.engine, semantic=kind) for kind in _kinds(engine, config, semantic))


def warm_up(
    engine: Engine, config: NodeConfig, *, semantic: bool = False, images_hw: Sequence[tuple[int, int]] = ()
) -> None:
    """Do what is done once for a configuration, if there is anything of it.

    What the engine cannot do is logged, and images do it as far as they need it.

    Args:
        engine: to be warmed up.
        config: of the node.
        semantic: whether images may want semantic classes, for whatever reason.
        images_hw: heights and widths of the images that will come, if they are known.
    """
    try:
        kinds = _kinds(engine, config, semantic)
        for kind in kinds:
            if not engine.is_warm(config.engine, semantic=kind):
                engine.warm_up(semantic=kind, config=config.engine)
        engine.prepare(images_hw, semantic=any(kinds), config=config.engine)
    except Exception:
        _log.warning("the model could not be warmed up, the first images may take longer", exc_info=True)


def _kinds(engine: Engine, config: NodeConfig, semantic: bool) -> tuple[bool, ...]:
    """Whether images need semantic classes: both kinds if some do, as not all outputs show them."""
    wanted = (semantic and engine.has_semantic) or _needs_semantic(engine, config)
    return (True, False) if wanted else (False,)


def _needs_semantic(engine: Engine, config: NodeConfig) -> bool:
    """Whether the region of obstacles does; the node refuses such a region if the model has no semantic classes."""
    return config.obstacles.region == "drivable" and engine.has_semantic
