"""The metadata of exported files, without running anything in them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.metadata import MOST_BYTES
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.onnx_check import check_onnx, onnx_metadata

_PT2_METADATA = "wrapper_metadata.json"
_MOST_ENTRIES = 10_000


def read_exported(path: Path) -> ExportContents:
    """Read the metadata of an ``.onnx`` or ``.pt2`` file. A pt2 file holds a library, which is not loaded.

    Raises:
        CheckpointError: if the file is missing, damaged, foreign or of another version; without its name.
    """
    if not path.is_file():
        raise CheckpointError("no such file")
    if path.suffix == ".pt2":
        return ExportContents.of(_pt2_metadata(path))
    check_onnx(path)
    return ExportContents.of(onnx_metadata(path))


def _pt2_metadata(path: Path) -> dict[str, str]:
    """The texts that AOTInductor puts beside its library, as the packages of torch 2.10 to 2.15 hold them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_ENTRIES:
                raise CheckpointError(f"it must have at most {_MOST_ENTRIES} entries, got {len(entries)}")
            described = [entry for entry in entries if entry.filename.endswith(_PT2_METADATA)]
            if len(described) != 1:
                raise CheckpointError(f"a pt2 file must hold one …{_PT2_METADATA}, got {len(described)}")
            if described[0].file_size > 2 * MOST_BYTES:
                raise CheckpointError(f"its metadata must have at most {2 * MOST_BYTES} bytes")
            with archive.open(described[0]) as file:
                stored: Any = json.loads(file.read(2 * MOST_BYTES))
    except (OSError, ValueError, RecursionError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"not a pt2 file, or a truncated one: {error}") from error
    if not isinstance(stored, dict):
        raise CheckpointError("its metadata must be a mapping of texts")
    return {name: value for name, value in stored.items() if isinstance(value, str)}
