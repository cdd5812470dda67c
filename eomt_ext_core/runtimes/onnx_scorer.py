"""Scoring of windows by onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core.backends.device import device_name, limit_threads
from eomt_ext_core.backends.window_scorer import CPU_BATCH, GPU_BATCH
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import CheckpointError, InferenceError
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.exported_scorer import (
    INPUT,
    WAY_OUT,
    ExportedScorer,
    Signature,
    check_config,
    check_file,
    check_graph,
    check_precision,
)
from eomt_ext_core.runtimes.extra import require
from eomt_ext_core.runtimes.onnx_check import check_onnx
from eomt_ext_core.runtimes.providers import (
    CPU,
    Providers,
    check_provider,
    choose_providers,
    device_of,
    start_first,
)

# onnxruntime has no exception of its own for this; these are messages of its arena and of CUDA.
_OUT_OF_MEMORY = re.compile(r"failed to allocate memory|out of memory|bad allocation", re.IGNORECASE)


class OnnxWindowScorer(ExportedScorer):
    """A file in onnxruntime; created by :meth:`load`.

    Attributes:
        provider: execution provider of onnxruntime in use.
        runs_on: device of the computation.
    """

    def __init__(self, session: Any, contents: ExportContents, provider: str, runs_on: torch.device) -> None:
        super().__init__(contents, contents.precision, CPU_BATCH if provider == CPU else GPU_BATCH)
        self.provider, self.runs_on = provider, runs_on
        self._device_name = _name_of(runs_on)
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
        onnxruntime = require("onnxruntime", "export")
        limit_threads()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3

        def start(providers: Providers) -> Any:
            return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)

        check_file(Path(path))
        try:
            check_onnx(Path(path))
            session = start([(CPU, {})])
            contents = ExportContents.of(session.get_modelmeta().custom_metadata_map)
            inputs, outputs = _signature(session.get_inputs()), _signature(session.get_outputs())
            check_graph(contents, inputs, outputs, "tensor(uint8)", "tensor(float)")
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}{WAY_OUT}") from error
        except Exception as error:  # onnxruntime's exceptions share no base
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{path}: onnxruntime cannot read it: {reason}{WAY_OUT}") from error
        check_precision(config, contents)
        check_config(config, contents, "onnxruntime")
        providers = choose_providers(config.device, onnxruntime.get_available_providers(), contents.precision)
        wanted = [name for name, _ in providers]
        if wanted != [CPU]:
            session = start_first(providers, start)
        provider = check_provider(config.device, wanted, session.get_providers())
        return cls(session, contents, provider, torch.device(device_of(provider, config.device)))

    def _run(self, crops: NDArray[np.uint8], names: list[str]) -> Sequence[NDArray[np.float32]]:
        try:
            results: list[NDArray[np.float32]] = self._session.run(names, {INPUT: crops})
        except Exception as error:  # onnxruntime's exceptions share no base
            if _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError(f"onnxruntime ({self.provider}): {error}") from error
            raise InferenceError(f"onnxruntime ({self.provider}) failed: {error}") from error
        return results

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        return {
            "device": str(self.runs_on),
            "device_name": self._device_name,
            "backend": "onnxruntime",
            "provider": self.provider,
            **super().describe(),
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


def _name_of(device: torch.device) -> str:
    """Return the product name of a device, if this torch supports it."""
    if device.type == "cuda" and device.index >= torch.cuda.device_count():  # a torch for the CPU counts none
        return f"GPU {device.index}"
    return device_name(device)


def _signature(items: Sequence[Any]) -> Signature:
    # A variable number of windows is a name instead of a number.
    return {item.name: (item.type, [None if isinstance(side, str) else side for side in item.shape]) for item in items}
