"""The packages of the extra ``export``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from eomt_ext_core.errors import ConfigError


def require(name: str) -> Any:
    """Import a package of the extra.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"exported ONNX files need {name}: install the extra 'export' ({error})") from error
