"""Message types that may not be installed."""

from __future__ import annotations

import functools
import importlib


@functools.cache
def installed_type(*names: str) -> type | None:
    """Give the first of these message types that is installed; None if none is.

    Args:
        names: such as ``sensor_msgs/msg/Image``. A package may be there in a version that lacks the type.
    """
    for name in names:
        package, _, kind = name.split("/")
        try:
            return getattr(importlib.import_module(f"{package}.msg"), kind)  # type: ignore[no-any-return]
        except (ImportError, AttributeError):
            continue
    return None
