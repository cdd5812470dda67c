"""Scoring of windows by an exported ONNX file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eomt_ext_core.backends.device import device_name, limit_threads
from eomt_ext_core.backends.window_scorer import CPU_BATCH, GPU_BATCH, SEMANTIC
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import CheckpointError, ConfigError, InferenceError
from eomt_ext_core.export.contents import ExportContents
from eomt_ext_core.export.extra import require
from eomt_ext_core.export.onnx_check import check_onnx
from eomt_ext_core.export.onnx_file import INPUT
from eomt_ext_core.export.providers import (
    CPU,
    Providers,
    check_provider,
    choose_providers,
    device_of,
    start_first,
)
from eomt_ext_core.model.metadata import class_names_of

_WAY_OUT = ". Create one with `eomt-ext export`, or use backend torch for a checkpoint"
# onnxruntime has no exception of its own for this; these are messages of its arena and of CUDA.
_OUT_OF_MEMORY = re.compile(r"failed to allocate memory|out of memory|bad allocation", re.IGNORECASE)


class OnnxWindowScorer:
    """An exported file as a :class:`~eomt_ext_core.backends.window_scorer.WindowScorer`; created by :meth:`load`.

    Windows and scores are on the CPU; onnxruntime moves them to a GPU and back.

    Attributes:
        contents: metadata of the file.
        provider: execution provider of onnxruntime in use.
        runs_on: device of the computation.
    """

    def __init__(self, session: Any, contents: ExportContents, provider: str, runs_on: torch.device) -> None:
        self.contents, self.provider, self.runs_on = contents, provider, runs_on
        self._device_name = _name_of(runs_on)
        self.crop_hw, self.num_classes = contents.crop_hw, contents.num_classes
        self.class_names = class_names_of(contents.info, contents.num_classes)
        self.scores = contents.outputs
        self.info = dict(contents.info)
        self.device, self.precision = torch.device("cpu"), contents.precision
        self.max_batch = contents.batch or (CPU_BATCH if provider == CPU else GPU_BATCH)
        self._session = session
        self._warm_batch = 0

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> OnnxWindowScorer:
        """Open a file written by ``eomt-ext export``.

        Args:
            path: the file.
            config: its ``device`` chooses the execution provider; it must not contradict settings fixed in the file.

        Raises:
            CheckpointError: if the file is missing, damaged, not an export, or of another version.
            ConfigError: if the device does not exist, ``config`` contradicts the file, or onnxruntime is not installed.
        """
        config = config or EngineConfig()
        onnxruntime = require("onnxruntime")
        limit_threads()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3

        def start(providers: Providers) -> Any:
            return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)

        if not Path(path).is_file():
            raise CheckpointError(f"{path} does not exist: pass a file written by `eomt-ext export`")
        try:
            check_onnx(Path(path))
            session = start([(CPU, {})])
            contents = ExportContents.of(session.get_modelmeta().custom_metadata_map)
            _check_graph(session, contents)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}{_WAY_OUT}") from error
        except Exception as error:  # onnxruntime's exceptions share no base
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{path}: onnxruntime cannot read it: {reason}{_WAY_OUT}") from error
        _check_config(config, contents)
        providers = choose_providers(config.device, onnxruntime.get_available_providers(), contents.precision)
        wanted = [name for name, _ in providers]
        if wanted != [CPU]:
            session = start_first(providers, start)
        provider = check_provider(config.device, wanted, session.get_providers())
        return cls(session, contents, provider, torch.device(device_of(provider, config.device)))

    def __call__(self, crops: Tensor, scores: Sequence[str]) -> Tensor:
        """Score windows: see the protocol.

        Raises:
            ConfigError: if a score is not in the file.
            MemoryError: if memory runs out.
            InferenceError: if onnxruntime fails for another reason.
        """
        missing = [name for name in scores if name not in self.scores]
        if missing:
            raise ConfigError(
                f"the score must be one in the file, {', '.join(self.scores)}, got {', '.join(missing)}: export it too"
            )
        count = len(crops)
        if count < self.contents.batch:
            crops = torch.cat((crops, crops[:1].expand(self.contents.batch - count, -1, -1, -1)))
        try:
            results = self._session.run(list(scores), {INPUT: np.ascontiguousarray(crops)})
        except Exception as error:  # onnxruntime's exceptions share no base
            if _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(f"onnxruntime ({self.provider}): {error}") from error
            raise InferenceError(f"onnxruntime ({self.provider}) failed: {error}") from error
        return torch.cat([torch.from_numpy(result) for result in results], dim=1)[:count]

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        return {
            "device": str(self.runs_on),
            "device_name": self._device_name,
            "backend": "onnxruntime",
            "provider": self.provider,
            "scoring": "in the exported file",
            "score_stride": str(self.contents.score_stride),
            **{f"exported_from_{name}": value for name, value in self.contents.origin.items()},
        }

    def warm_up(self, scores: Sequence[str], batch: int) -> int:
        """Run the largest batch on a GPU, as TensorRT builds an engine for a range of sizes: see the protocol."""
        if self.provider != CPU and not self.contents.batch:
            self(torch.zeros((batch, 3, *self.crop_hw), dtype=torch.uint8), scores)
            self._warm_batch = max(batch, self._warm_batch)
        return batch

    def is_warm(self, scores: Sequence[str], batch: int) -> bool:
        """Compare with the largest batch that has run on a GPU: see the protocol."""
        return self.provider == CPU or self.contents.batch > 0 or batch <= self._warm_batch

    def free_memory(self) -> None:
        """Do nothing: onnxruntime keeps its memory while the file is open."""


def _name_of(device: torch.device) -> str:
    """Return the product name of a device, if this torch supports it."""
    if device.type == "cuda" and device.index >= torch.cuda.device_count():  # a torch for the CPU counts none
        return f"GPU {device.index}"
    return device_name(device)


def _check_graph(session: Any, contents: ExportContents) -> None:
    """Check inputs and outputs against the metadata."""
    batch, size_hw = contents.batch or None, contents.crop_hw
    wanted = {name: ("tensor(float)", [batch, 1, *size_hw]) for name in contents.scores}
    if SEMANTIC in contents.outputs:
        wanted[SEMANTIC] = ("tensor(float)", [batch, contents.num_classes, *size_hw])
    for kind, found, expected in (
        ("input", session.get_inputs(), {INPUT: ("tensor(uint8)", [batch, 3, *size_hw])}),
        ("output", session.get_outputs(), wanted),
    ):
        # A variable number of windows is a name instead of a number.
        shapes = {
            item.name: (item.type, [None if isinstance(side, str) else side for side in item.shape]) for item in found
        }
        if shapes != expected:
            raise CheckpointError(f"its {kind}s must be {expected} as in its metadata, got {shapes}")


def _check_config(config: EngineConfig, contents: ExportContents) -> None:
    """Refuse settings that contradict the file."""
    if config.precision not in ("auto", contents.precision):
        raise ConfigError(f"precision must be {contents.precision} as in the file, got {config.precision}: choose auto")
    if config.score_stride not in (1, contents.score_stride):
        raise ConfigError(
            f"score_stride must be {contents.score_stride} as in the file, got {config.score_stride}: choose 1"
        )
    if config.optimize not in ("auto", "none"):
        raise ConfigError(f"optimize must be auto with backend onnxruntime, got {config.optimize!r}: choose auto")
