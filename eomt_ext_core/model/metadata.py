"""Metadata of checkpoints and exported files: JSON from strangers, checked once for types and lengths.

All later readers, such as the node's diagnostics, can rely on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eomt_ext_core.config import SCORES
from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.scoring.calibration import LogitCalibration
from eomt_ext_core.scoring.probe import Probe

VERSION = 1
MOST_BYTES = 1 << 20
MOST_TEXT = 10_000
_MOST_DEPTH = 16
_MOST_NAME = 200
_MOST_ORIGINS = 16
_LARGEST_NUMBER = 1 << 63


def read_json(text: str | bytes) -> Any:
    """Parse standard JSON of at most ``MOST_BYTES``.

    Raises:
        CheckpointError: if it is too long or too deep, not JSON, or has a text or number out of range.
    """
    if len(text) > MOST_BYTES:
        raise CheckpointError(f"its metadata must have at most {MOST_BYTES} bytes, got {len(text)}")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its metadata cannot be read: {error}") from error
    _check_value(value, _MOST_DEPTH)
    return value


def write_json(value: Any) -> str:
    """Write JSON for :func:`read_json`.

    Raises:
        CheckpointError: if ``value`` is not JSON, or could not be read back.
    """
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"model.info and the configuration must be JSON values: {error}") from error
    read_json(text)
    return text


def read_own(text: str) -> dict[str, Any]:
    """Read the metadata of our own files: ``model`` (fields of its configuration), ``info``, and ``head`` or None.

    Raises:
        CheckpointError: if they are damaged or of another version.
    """
    metadata = read_json(text)
    if not isinstance(metadata, dict) or "version" not in metadata:
        raise CheckpointError(f"its metadata cannot be read: it must be a mapping with 'version', got {metadata!r}")
    if metadata["version"] != VERSION:
        raise CheckpointError(
            f"metadata version must be {VERSION}, got {metadata['version']!r}; a newer package wrote it"
        )
    model, head = metadata.get("model"), metadata.get("head")
    if (
        not isinstance(model, dict)
        or "crop_hw" not in model
        or not isinstance(metadata.get("info"), dict)
        or not (head is None or (isinstance(head, dict) and "dropout" in head))
    ):
        raise CheckpointError(f"its metadata must hold 'model', 'info' and 'head', got {sorted(metadata)}")
    return {**metadata, "model": {**model, "trained_crop_hw": model["crop_hw"]}}


def check_info(info: Any, num_classes: int) -> dict[str, Any]:
    """Check the class names and the calibration in the metadata of a checkpoint.

    Args:
        info: from :func:`read_json`.
        num_classes: semantic classes of the model.

    Returns:
        a copy of ``info``.

    Raises:
        CheckpointError: if it is not a mapping, does not have a name for each class, or has an invalid calibration or
            probe.
    """
    if not isinstance(info, Mapping):
        raise CheckpointError(f"its info must be a mapping, got {type(info).__name__}")
    class_names_of(info, num_classes)
    for score in SCORES:
        LogitCalibration.of(info, score)
    Probe.of(info)
    return dict(info)


def check_origin(origin: Any) -> dict[str, str]:
    """Check the names and checksums of the source files.

    Raises:
        CheckpointError: if it is not a mapping of texts to texts, or has too many or too long ones.
    """
    if not isinstance(origin, Mapping):
        raise CheckpointError(f"its origin must be a mapping of texts, got {type(origin).__name__}")
    if len(origin) > _MOST_ORIGINS:
        raise CheckpointError(f"its origin must have at most {_MOST_ORIGINS} entries, got {len(origin)}")
    for item in (*origin, *origin.values()):
        if not _is_name(item):
            raise CheckpointError(
                f"its origin must be texts of at most {_MOST_NAME} printable characters, got {item!r}"
            )
    return dict(origin)


def class_names_of(info: Mapping[str, Any], num_classes: int) -> tuple[str, ...]:
    """Return the names of the semantic classes in a checkpoint's ``info``; empty if there are none.

    Raises:
        CheckpointError: if they are not a short text for each class.

    >>> class_names_of({"class_names": ["road", "car"]}, 2)
    ('road', 'car')
    """
    names = info.get("class_names", ())
    if not isinstance(names, list | tuple) or len(names) not in (0, num_classes) or not all(map(_is_name, names)):
        raise CheckpointError(
            f"class_names must be {num_classes} texts, one for each class, of at most {_MOST_NAME} characters, "
            f"got {names!r}"
        )
    return tuple(names)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_NAME and value.isprintable()


def _check_value(value: Any, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int | float) and not -_LARGEST_NUMBER < value < _LARGEST_NUMBER:
        raise CheckpointError("its metadata may hold numbers between -2^63 and 2^63, got another")
    elif isinstance(value, dict | list):
        if not depth:
            raise CheckpointError(f"its metadata may be nested at most {_MOST_DEPTH} deep")
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_value(part, depth - 1)


def _check_text(text: str) -> None:
    if len(text) > MOST_TEXT:
        raise CheckpointError(f"its metadata may hold texts of at most {MOST_TEXT} characters, got {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"its metadata must be valid Unicode: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
