"""Fingerprints of data: short texts that differ if the data may differ."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any


def fingerprint_of(settings: Any, files: Iterable[str | Path] = (), generators: Iterable[ModuleType] = ()) -> str:
    """Digest settings, files and source code.

    Args:
        settings: everything else that determines the data; equal settings must have the same ``repr``.
        files: each by its absolute path, size and modification time.
        generators: modules or packages that draw the data, each by its source code.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: if a file is missing.

    >>> fingerprint_of({"seed": 1}) == fingerprint_of({"seed": 1}), fingerprint_of(1) == fingerprint_of(2)
    (True, False)
    """
    digest = hashlib.sha256(repr(settings).encode())
    for path in sorted(Path(file).resolve() for file in files):
        status = path.stat()
        digest.update(b"\n" + os.fsencode(path) + f" {status.st_size} {status.st_mtime_ns}".encode())
    for module in generators:
        digest.update(f"\n{module.__name__}".encode())
        for source in _sources(module):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _sources(module: ModuleType) -> list[Path]:
    """List the file of a module, or all files of a package."""
    path = Path(str(module.__file__))
    return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
