"""What people give in the place of a model, and what to do with it instead."""

from __future__ import annotations

from pathlib import Path

from eomt_ext_core.errors import CheckpointError

_BAG = "a recorded bag: `eomt-ext replay` runs a model on it"
_IMAGE = "an image: `eomt-ext predict` runs a model on it"
_PAGE = "a web page: download the file itself"
# No file of weights begins like these: as the length of a safetensors header, they are too large.
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file with `git lfs pull`",
    b"<!doctype": _PAGE, b"<html": _PAGE, b"\x89MCAP0": _BAG, b"sqlite format 3": _BAG,
    b"\x89PNG\r\n\x1a\n": _IMAGE, b"\xff\xd8\xff\xdb": _IMAGE, b"\xff\xd8\xff\xe0": _IMAGE, b"\xff\xd8\xff\xe1": _IMAGE,
    b"\xff\xd8\xff\xe2": _IMAGE, b"\xff\xd8\xff\xee": _IMAGE, b"RIFF": _IMAGE,
}  # fmt: skip
_MP4_KIND = slice(4, 8)
_BAG_INDEX = "metadata.yaml"


def refuse_foreign(path: Path) -> None:
    """Hold a file to be none of another well-known kind; whatever else it is, its reader says.

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
    if start[_MP4_KIND] == b"ftyp":
        raise CheckpointError(f"{path}: it is a video: `eomt-ext predict` runs a model on it")
    for known, what in _STARTS.items():
        if start.startswith(known) or start.lower().startswith(known):
            raise CheckpointError(f"{path}: it is {what}")


def refuse_bag(folder: Path) -> None:
    """Hold a folder to be no recorded bag.

    Raises:
        CheckpointError: if it is one.
    """
    if (folder / _BAG_INDEX).is_file():
        raise CheckpointError(f"{folder}: it is {_BAG}")
