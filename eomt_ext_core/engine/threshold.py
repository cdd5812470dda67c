"""The threshold of the mask: which one is in force, and what it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eomt_ext_core.config import DEFAULT_THRESHOLD, EngineConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.scoring.calibration import LogitCalibration
from eomt_ext_core.scoring.uncertainty import BASELINES

_CLASSES_NAMED = 8


class Threshold(NamedTuple):
    """A probability above which a pixel is in the mask, and what it comes from, for people."""

    value: float
    origin: str


def threshold_in_force(config: EngineConfig, calibrations: Mapping[str, LogitCalibration]) -> Threshold:
    """Choose the threshold: the configuration's, else that of the score's calibration, else 0.5.

    An uncalibrated baseline has none. Its values rank pixels and mean nothing by themselves: with 0.5, most of them
    mark the whole image. A fraction of the drive's own pixels would mark as much of an empty road as of a full one.

    Args:
        config: with the score and, if it is not negative, the threshold.
        calibrations: of the checkpoint, by score.

    Raises:
        ConfigError: if there is none.
    """
    if config.threshold >= 0:
        return Threshold(config.threshold, "set")
    if config.score in calibrations:
        known = calibrations[config.score]
        return Threshold(known.threshold, known.origin)
    if not has_threshold(config, calibrations):
        raise ConfigError(
            f"score {config.score} needs a threshold, this checkpoint has none for it: run `eomt-ext calibrate "
            f"--scores {config.score}`, or set one that `eomt-ext evaluate` prints; 1 is for no mask at all"
        )
    return Threshold(DEFAULT_THRESHOLD, "the default, not calibrated")


def has_threshold(config: EngineConfig, calibrations: Mapping[str, LogitCalibration]) -> bool:
    """Whether a threshold is set, calibrated, or 0.5 by the meaning of the score."""
    return config.threshold >= 0 or config.score in calibrations or config.score not in BASELINES


def describe_threshold(config: EngineConfig, calibrations: Mapping[str, LogitCalibration]) -> dict[str, str]:
    """Describe the threshold in force and the calibration of the score to an operator."""
    if not has_threshold(config, calibrations):
        return {"threshold": "none", "calibration": "none"}
    value, origin = threshold_in_force(config, calibrations)
    known = calibrations.get(config.score)
    fitted = "none" if known is None else f"sigmoid({known.scale:.4g} · score {known.shift:+.4g})"
    return {"threshold": f"{value:.4g} ({origin})", "calibration": fitted}


def describe_classes(names: Sequence[str], number: int) -> str:
    """Describe the semantic classes to an operator: how many, and the first of them."""
    if not names:
        return f"{number}, without names"
    more = ", …" if len(names) > _CLASSES_NAMED else ""
    return f"{number}: {', '.join(names[:_CLASSES_NAMED])}{more}"
