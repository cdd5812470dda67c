"""ROS-free core of eomt_ext_ros: the model, windows, scoring and the engine that runs a frame.

>>> import numpy as np
>>> from eomt_ext_core import AnomalyEngine
>>> engine = AnomalyEngine.load("demo")
>>> frame = engine.infer(np.zeros((540, 960, 3), np.uint8))
>>> frame.probability.shape, frame.mask.dtype
((540, 960), dtype('bool'))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eomt_ext_core.config import EngineConfig, HeadConfig, ModelConfig, WindowConfig
    from eomt_ext_core.engine import AnomalyEngine, AnomalyFrame
    from eomt_ext_core.errors import (
        CheckpointError,
        ConfigError,
        DatasetError,
        EomtExtError,
        ImageError,
        InferenceError,
    )
    from eomt_ext_core.model.checkpoint import load_model, save_model
    from eomt_ext_core.model.eomt import EoMT, Prediction
    from eomt_ext_core.model.eomt_ext import EoMTExt

_HOMES = {
    "config": ("EngineConfig", "HeadConfig", "ModelConfig", "WindowConfig"),
    "engine": ("AnomalyEngine", "AnomalyFrame"),
    "errors": ("CheckpointError", "ConfigError", "DatasetError", "EomtExtError", "ImageError", "InferenceError"),
    "model.checkpoint": ("load_model", "save_model"),
    "model.eomt": ("EoMT", "Prediction"),
    "model.eomt_ext": ("EoMTExt",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AnomalyEngine",
    "AnomalyFrame",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "EngineConfig",
    "EoMT",
    "EoMTExt",
    "EomtExtError",
    "HeadConfig",
    "ImageError",
    "InferenceError",
    "ModelConfig",
    "Prediction",
    "WindowConfig",
    "load_model",
    "save_model",
]


def __getattr__(name: str) -> Any:
    # Importing torch and timm takes seconds; the scenes and the launch files need neither.
    if name in _HOME_OF:
        return getattr(import_module(f"eomt_ext_core.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
