"""The file that ``eomt-ext calibrate`` fits: a checkpoint, or an export of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eomt_ext_core.about.record import with_record
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.engine.loading import choose_backend
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import expanded
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.calibration import INFO_KEY, SCORES_KEY


class CalibratedFile:
    """A file with an anomaly head, whatever runs it, as it is without its own calibration.

    Args:
        source: checkpoint or exported file.
        target: the file to write, with the suffix of an export if the source is one.
        config: how to run it, and the score that is calibrated.
        head: separate file with the anomaly head of a checkpoint, or none.

    Attributes:
        engine: runs it.
        model: of a checkpoint; None of an export.

    Raises:
        CheckpointError, ConfigError: if the file cannot be opened, or the target does not match it.
    """

    SUFFIXES = (".safetensors", ".onnx")

    def __init__(self, source: str, target: Path, config: EngineConfig, head: Path | None = None) -> None:
        from eomt_ext_core.model.checkpoint import load_model

        self.model: EoMTExt | None = None
        self._target = target
        self._write: Callable[[dict[str, Any]], None]
        if choose_backend(config.backend, source) != "torch":
            self._check_suffix(".onnx", "exported file")
            if head is not None:
                raise ConfigError(f"an exported file holds its head, got {head} besides: calibrate the checkpoint")
            self.engine = AnomalyEngine.load(source, config)
            self._info = dict(self.engine.scorer.info)
            self._write = lambda info: _rewrite(expanded(source), info, target)
        else:
            self._check_suffix(".safetensors", "model")
            self.model = load_model(source, head=head)
            self.model.info = _with_calibration(self.model.info, config.score, None)
            self.engine = AnomalyEngine(self.model, config)
            self._info = dict(self.model.info)
            self._write = self._save_model
        self._score = config.score
        self._probe: dict[str, Any] | None = None

    def save(self, calibration: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write the file with a calibration of the score, and a record of the run."""
        self._write(with_record(_with_calibration(self._info, self._score, dict(calibration)), record))

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


def _with_calibration(info: Mapping[str, Any], score: str, stored: dict[str, Any] | None) -> dict[str, Any]:
    """Give the metadata of a checkpoint with the calibration of a score, or without one."""
    if score == "head":
        plain = {key: value for key, value in info.items() if key != INFO_KEY}
        return plain if stored is None else plain | {INFO_KEY: stored}
    others = {name: each for name, each in info.get(SCORES_KEY, {}).items() if name != score}
    others |= {} if stored is None else {score: stored}
    plain = {key: value for key, value in info.items() if key != SCORES_KEY}
    return plain | {SCORES_KEY: others} if others else plain
