"""Scoring of windows by an exported file, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.model.metadata import class_names_of
from eomt_ext_core.runtimes.contents import ExportContents

# Of a tensor: the name of its type, and its sides; None for any number of windows.
Signature = Mapping[str, tuple[str, list[int | None]]]

INPUT = "crops"
WAY_OUT = ". Create one with `eomt-ext export`, or use backend torch for a checkpoint"


class ExportedScorer(ABC):
    """An exported file as a :class:`~eomt_ext_core.backends.window_scorer.WindowScorer`.

    Windows and scores are on the CPU; the runtime moves them to its device and back.

    Args:
        contents: metadata of the file.
        precision: of its network here.
        max_batch: most windows in a call, if the file takes any number.

    Attributes:
        contents: metadata of the file.
    """

    def __init__(self, contents: ExportContents, precision: str, max_batch: int) -> None:
        self.contents, self.precision = contents, precision
        self.crop_hw, self.num_classes = contents.crop_hw, contents.num_classes
        self.class_names = class_names_of(contents.info, contents.num_classes)
        self.scores = contents.outputs
        self.info = dict(contents.info)
        self.device = torch.device("cpu")
        self.max_batch = contents.batch or max_batch

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows: see the protocol.

        Raises:
            ConfigError: if a score is not in the file.
            MemoryError: if memory runs out.
            InferenceError: if the runtime fails for another reason.
        """
        missing = [name for name in scores if name not in self.scores]
        if missing:
            raise ConfigError(
                f"the score must be one in the file, {', '.join(self.scores)}, got {', '.join(missing)}: export it too"
            )
        count = len(crops)
        if count < self.contents.batch:
            crops = torch.cat((crops, crops[:1].expand(self.contents.batch - count, -1, -1, -1)))
        results = self._run(np.ascontiguousarray(crops), list(scores))
        return torch.cat([torch.from_numpy(result) for result in results], dim=1)[:count]

    @abstractmethod
    def _run(self, crops: NDArray[np.uint8], names: list[str]) -> Sequence[NDArray[np.float32]]:
        """Return the outputs with these names for windows (N, 3, h, w)."""

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        return {
            "scoring": "in the exported file",
            "score_stride": str(self.contents.score_stride),
            **{f"exported_from_{name}": value for name, value in self.contents.origin.items()},
        }

    def warm_up(self, scores: Sequence[str], batch: int) -> int:
        """Do nothing: see the protocol."""
        return batch

    def is_warm(self, scores: Sequence[str], batch: int) -> bool:
        """Need no warm-up: see the protocol."""
        return True

    def free_memory(self) -> None:  # noqa: B027 nothing to do is right for most runtimes
        """Do nothing: runtimes keep their memory while the file is open."""


def check_file(path: Path) -> None:
    """Raise ``CheckpointError`` if there is no such file."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: pass a file written by `eomt-ext export`")


def check_graph(contents: ExportContents, inputs: Signature, outputs: Signature, uint8: str, float32: str) -> None:
    """Check inputs and outputs of a graph against its metadata.

    Args:
        contents: the metadata.
        inputs: of the graph.
        outputs: of the graph.
        uint8: name of the type in the runtime.
        float32: likewise.

    Raises:
        CheckpointError: if they differ.
    """
    batch, size_hw = contents.batch or None, contents.crop_hw
    wanted: dict[str, tuple[str, list[int | None]]] = {
        name: (float32, [batch, 1, *size_hw]) for name in contents.scores
    }
    if SEMANTIC in contents.outputs:
        wanted[SEMANTIC] = (float32, [batch, contents.num_classes, *size_hw])
    for kind, found, expected in (
        ("input", inputs, {INPUT: (uint8, [batch, 3, *size_hw])}),
        ("output", outputs, wanted),
    ):
        if found != expected:
            raise CheckpointError(f"its {kind}s must be {expected} as in its metadata, got {found}")


def check_config(config: EngineConfig, contents: ExportContents, backend: str) -> None:
    """Raise ``ConfigError`` if settings contradict what is fixed in the file."""
    if config.score_stride not in (1, contents.score_stride):
        raise ConfigError(
            f"score_stride must be {contents.score_stride} as in the file, got {config.score_stride}: choose 1"
        )
    if config.optimize not in ("auto", "none"):
        raise ConfigError(f"optimize must be auto with backend {backend}, got {config.optimize!r}: choose auto")


def check_precision(config: EngineConfig, contents: ExportContents) -> None:
    """Raise ``ConfigError`` if the precision differs from that of the file, for a runtime that cannot change it."""
    if config.precision not in ("auto", contents.precision):
        raise ConfigError(f"precision must be {contents.precision} as in the file, got {config.precision}: choose auto")
