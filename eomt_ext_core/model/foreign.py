"""What people give in the place of a model, and what to do with it instead."""

from __future__ import annotations

import re
from pathlib import Path

from eomt_ext_core.errors import CheckpointError

_BAG = "a recorded bag: `eomt-ext replay` runs a model on it"
_IMAGE = "an image: `eomt-ext predict` runs a model on it"
_VIDEO = "a video: `eomt-ext predict` runs a model on it"
_PAGE = "a web page: download the file itself"
# No file of weights begins like these: as the length of a safetensors header, they are too large.
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file with `git lfs pull`",
    b"<!doctype": _PAGE, b"<html": _PAGE, b"\x89MCAP0": _BAG, b"sqlite format 3": _BAG,
    b"\x89PNG\r\n\x1a\n": _IMAGE, b"\xff\xd8\xff\xdb": _IMAGE, b"\xff\xd8\xff\xe0": _IMAGE, b"\xff\xd8\xff\xe1": _IMAGE,
    b"\xff\xd8\xff\xe2": _IMAGE, b"\xff\xd8\xff\xee": _IMAGE,
}  # fmt: skip
# Containers name their kind after their length.
_FORMS = {rb".{4}ftyp": _VIDEO, rb"RIFF.{4}AVI ": _VIDEO, rb"RIFF.{4}WEBP": _IMAGE}
_FOLDERS = {
    "metadata.yaml": _BAG,
    "evidence.json": "an evidence pack: `eomt-ext verify` compares it with the files that it names",
}


def refuse_foreign(path: Path) -> None:
    """Refuse a file of another well-known kind by name; what else may be wrong with it, its reader says.

    Raises:
        CheckpointError: naming the file, what it is, and what takes it.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: it must be a regular file")
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise CheckpointError(f"{path}: it is empty: download or write it again")
    for form, what in _FORMS.items():
        if re.match(form, start, re.DOTALL):
            raise CheckpointError(f"{path}: it is {what}")
    for known, what in _STARTS.items():
        if start.startswith(known) or start.lower().startswith(known):
            raise CheckpointError(f"{path}: it is {what}")


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder of another well-known kind by name.

    Raises:
        CheckpointError: naming the folder, what it is, and what takes it.
    """
    for name, what in _FOLDERS.items():
        if (folder / name).is_file():
            raise CheckpointError(f"{folder}: it is {what}")
