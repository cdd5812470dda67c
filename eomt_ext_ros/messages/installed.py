"""Message types that may not be installed."""

from __future__ import annotations

import functools
import importlib


@functools.cache
def installed_type(name: str) -> type | None:
    """Give a message type; None if it is not installed.

    Args:
        name: such as ``sensor_msgs/msg/Image``. Its package may be there in a version that lacks the type.
    """
    package, _, kind = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)  # type: ignore[no-any-return]
    except (ImportError, AttributeError):
        return None
