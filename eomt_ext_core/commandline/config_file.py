"""Options of a command from a YAML file: ``--config FILE``, with the names of the options as keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import printable

_MOST_BYTES = 1 << 20


def read_options(path: Path, known: Mapping[str, str], lists: frozenset[str]) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: of the file, a mapping of names such as ``scores`` or ``label-values`` to values.
        known: by each name that may be a key, the parameter it stands for.
        lists: the parameters that take several values; for others, a list is joined by commas.

    Returns:
        values by parameter.

    Raises:
        ConfigError: naming the file, if it cannot be read, is no such mapping, or has a key that is no option.
    """
    import yaml

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{printable(path)} must have at most {_MOST_BYTES} bytes")
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{printable(path)} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{printable(path)} is not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{printable(path)} must hold options and values, such as scores: head, got {content!r:.80}")
    found = {}
    for key, value in content.items():
        name = str(key).replace("_", "-")
        if name not in known:
            raise ConfigError(f"{printable(path)}: {key!r} is not an option; choose from {', '.join(sorted(known))}")
        if isinstance(value, Mapping):
            raise ConfigError(f"{printable(path)}: {key} must be a value or a list, got a mapping")
        is_list, takes_list = isinstance(value, list), known[name] in lists
        found[known[name]] = ",".join(map(str, value)) if is_list and not takes_list else value
    return found
