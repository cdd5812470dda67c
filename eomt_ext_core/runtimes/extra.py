"""Packages of the extras for exported files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from eomt_ext_core.errors import ConfigError


def require(name: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"exported ONNX files need {name}: install the extra {extra!r} ({error})") from error
