"""The file that ``eomt-ext calibrate`` fits: a checkpoint, or an export of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.loading import choose_backend
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.calibration import INFO_KEY


class CalibratedFile:
    """A file with an anomaly head, whatever runs it, as it is without its own calibration.

    Args:
        source: checkpoint or exported file.
        target: the file to write, with the suffix of an export if the source is one.
        config: how to run it.

    Attributes:
        engine: runs it.
        model: of a checkpoint; None of an export.

    Raises:
        CheckpointError, ConfigError: if the file cannot be opened, or the target does not match it.
    """

    def __init__(self, source: str, target: Path, config: EngineConfig) -> None:
        from eomt_ext_core.model.checkpoint import load_model

        self.model: EoMTExt | None = None
        self._target = target
        self._write: Callable[[dict[str, Any]], None]
        if choose_backend(config.backend, source) != "torch":
            self._check_suffix(".onnx", "exported file")
            self.engine = AnomalyEngine.load(source, config)
            self._info = dict(self.engine.scorer.info)
            self._write = lambda info: _rewrite(Path(source).expanduser(), info, target)
        else:
            self._check_suffix(".safetensors", "model")
            self.model = load_model(source)
            self.engine = AnomalyEngine(self.model, config)
            self._info = dict(self.model.info)
            self._write = self._save_model
        self._info.pop(INFO_KEY, None)
        self._probe: dict[str, Any] | None = None

    def save(self, calibration: Mapping[str, Any]) -> None:
        """Write the file with a calibration."""
        self._write(self._info | {INFO_KEY: dict(calibration)})

    def _check_suffix(self, suffix: str, what: str) -> None:
        if self._target.suffix != suffix:
            raise ConfigError(f"a calibrated {what} is saved as {suffix}: give --output, got {str(self._target)!r}")

    def _save_model(self, info: dict[str, Any]) -> None:
        from eomt_ext_core.engine.probing import make_probe
        from eomt_ext_core.model.checkpoint import save_model

        assert self.model is not None
        self.model.info = info
        self._probe = self._probe or make_probe(self.model)
        save_model(self.model, self._target, self._probe)


def _rewrite(source: Path, info: dict[str, Any], target: Path) -> None:
    from eomt_ext_core.export.metadata_rewrite import rewrite_info

    rewrite_info(source, info, target)
