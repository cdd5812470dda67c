"""Opening files of strangers: regular ones only, none larger than agreed; an error names what is there instead."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from eomt_ext_core.errors import ImageError
from eomt_ext_core.files import printable


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file to be read; pipes, devices and folders are refused without waiting for them.

    Raises:
        ImageError: reason ``"file"``, naming the file and what it is.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{printable(path)} is a folder, not a file", "file")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{printable(path)} must be a regular file, got a pipe or a device", "file")
        return open(path, "rb")
    except FileNotFoundError as error:
        broken = "is a link to a file that is not there" if os.path.islink(path) else "is not there"
        raise ImageError(f"{printable(path)} {broken}", "file") from error
    except OSError as error:
        raise ImageError(f"{printable(path)} cannot be read: {error.strerror or error}", "file") from error


def read_file(path: str | Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        ImageError: reason ``"file"``, if it cannot be read or is larger than ``max_bytes``; ``"empty"`` if it
            holds nothing.
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
