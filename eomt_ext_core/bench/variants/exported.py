"""Exported files: by the engine in the runtime that is configured, and packages of AOTInductor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core.backends.device import device_name, limit_threads
from eomt_ext_core.backends.window_scorer import CPU_BATCH, SEMANTIC, WindowScorer
from eomt_ext_core.bench.clock import StageClock
from eomt_ext_core.bench.variants.pipelines import Pipelines
from eomt_ext_core.config import DEFAULT_THRESHOLD, EngineConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.loading import load_scorer
from eomt_ext_core.export.pt2_file import Pt2Package
from eomt_ext_core.model.checkpoint import resolve_source
from eomt_ext_core.runtimes.exported_scorer import ExportedScorer, check_precision


class Pt2WindowScorer(ExportedScorer):
    """A package of AOTInductor, whose compiled code is run, as a scorer of windows.

    Raises:
        CheckpointError: if the package cannot be loaded.
        ConfigError: if the device or the precision is not the package's.
    """

    def __init__(self, path: Path, config: EngineConfig) -> None:
        limit_threads()
        self._package = Pt2Package(path, config.device)
        check_precision(config, self._package.contents)
        super().__init__(self._package.contents, self._package.contents.precision, CPU_BATCH)

    def _run(self, crops: NDArray[np.uint8], names: list[str]) -> Sequence[NDArray[np.float32]]:
        return [self._package(torch.from_numpy(crops), (name,)).cpu().numpy() for name in names]

    def describe(self) -> dict[str, str]:
        """Describe the backend: see the protocol."""
        device = self._package.device
        return {
            "device": str(device),
            "device_name": device_name(device),
            "backend": "aotinductor",
            **super().describe(),
        }


def load_exported(source: str, backend: str, precision: str, device: str) -> AnomalyEngine:
    """Load the engine of an exported file; its score is the head's, or the first of a file without that.

    Raises:
        CheckpointError, ConfigError: if it cannot be used on this device.
        InferenceError: if it gives another answer than the known one in the file.
    """
    config, path = EngineConfig(device, backend, precision), resolve_source(source)
    scorer: WindowScorer
    if path.suffix == ".pt2":
        scorer = Pt2WindowScorer(path, config)
    else:
        scorer, _ = load_scorer(path, config, None)
    if config.score not in scorer.scores:
        score = next((name for name in scorer.scores if name != SEMANTIC), config.score)
        config = replace(config, score=score, threshold=DEFAULT_THRESHOLD)  # a mask costs the same at any threshold
    engine = AnomalyEngine(scorer, config)
    engine.self_test()
    return engine


def exported_pipelines(engine: AnomalyEngine) -> Pipelines:
    """Mark the stages while the frame is computed: network and scoring are one graph, which nothing takes apart."""

    def run(image_rgb: NDArray[np.uint8], clock: StageClock) -> NDArray[np.float32]:
        with engine.marking(clock.mark):
            return engine.infer(image_rgb).probability

    return Pipelines(run, run)
