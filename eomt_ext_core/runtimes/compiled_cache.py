"""The user's cache of compiled models: compiling takes seconds to minutes, loading less."""

from __future__ import annotations

import logging

from eomt_ext_core.files import cache_folder

_log = logging.getLogger(__name__)


def compiled_cache(runtime: str) -> str:
    """Return the folder of a runtime in the user's cache; empty, with a warning, if it cannot be made."""
    try:
        folder = cache_folder(runtime)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # the last of a user without a home
        _log.warning("models are compiled at every start, as they cannot be kept: %s", error)
        return ""
    return str(folder)
