"""The user's cache of compiled models: compiling takes seconds to minutes, loading less."""

from __future__ import annotations

import logging

from eomt_ext_core.files import cache_folder

_log = logging.getLogger(__name__)


def compiled_cache(runtime: str) -> str:
    """Return the folder of a runtime in the user's cache; empty, with a warning, if it cannot be made."""
    folder = cache_folder(runtime)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("models are compiled at every start, as %s cannot be written: %s", folder, error)
        return ""
    return str(folder)
