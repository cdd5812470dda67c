"""Exported files: by the engine in the runtime that is configured, and packages of AOTInductor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core.backends.device import choose_device
from eomt_ext_core.backends.window_scorer import CPU_BATCH
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.variants.pipelines import Pipelines
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.export.pt2_file import Pt2Package
from eomt_ext_core.runtimes.exported_scorer import ExportedScorer


class Pt2WindowScorer(ExportedScorer):
    """A package of AOTInductor, whose compiled code is run, as a scorer of windows."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._package = Pt2Package(path, device)
        super().__init__(self._package.contents, self._package.contents.precision, CPU_BATCH)

    def _run(self, crops: NDArray[np.uint8], names: list[str]) -> Sequence[NDArray[np.float32]]:
        return [self._package(torch.from_numpy(crops), (name,)).cpu().numpy() for name in names]

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        return {"backend": "aotinductor", **super().describe()}


def load_exported(source: str, backend: str, precision: str, device: str) -> AnomalyEngine:
    """Load the engine of an exported file.

    Raises:
        CheckpointError, ConfigError: if it cannot be used on this device.
    """
    config = EngineConfig(device, backend, precision)
    if Path(source).suffix == ".pt2":
        return AnomalyEngine(Pt2WindowScorer(Path(source), choose_device(device)), config)
    return AnomalyEngine.load(source, config)


def exported_pipelines(engine: AnomalyEngine) -> Pipelines:
    """Mark the stages while the frame is computed: network and scoring are one graph, which nothing takes apart."""

    def run(image_rgb: NDArray[np.uint8], clock: StageClock) -> NDArray[np.float32]:
        with engine.marking(clock.mark):
            return engine.infer(image_rgb).probability

    return Pipelines(run, run)
