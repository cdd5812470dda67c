"""Safe opening of files from strangers: regular files of limited size."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from eomt_ext_core.errors import ImageError
from eomt_ext_core.files import printable


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading; pipes, devices and folders are refused without waiting for them.

    Raises:
        ImageError: reason ``"file"``, naming the file and its kind.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{printable(path)} must be a file, got a folder", "file")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{printable(path)} must be a regular file, got a pipe or a device", "file")
        return open(path, "rb")
    except FileNotFoundError as error:
        problem = "is a broken link" if os.path.islink(path) else "does not exist"
        raise ImageError(f"{printable(path)} {problem}", "file") from error
    except OSError as error:
        raise ImageError(f"{printable(path)} cannot be read: {error.strerror or error}", "file") from error


def read_file(path: str | Path, max_bytes: int) -> bytes:
    """Read a regular file.

    Raises:
        ImageError: reason ``"file"`` if it cannot be read or is larger than ``max_bytes``; ``"empty"`` if it is empty.
    """
    with open_file(path) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise ImageError(f"{printable(path)} cannot be read: {error.strerror or error}", "file") from error
    if len(content) > max_bytes:
        raise ImageError(f"{printable(path)} must have at most {max_bytes} bytes, got more", "file")
    if not content:
        raise ImageError(f"{printable(path)} is empty", "empty")
    return content
