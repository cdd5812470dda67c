"""The definition of an input by its name, for all commands that accept folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import printable

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""The suffixes of the supported image formats, in lower case."""

FOREIGN_IMAGE_SUFFIXES = (".tif", ".tiff", ".gif", ".jp2", ".heic", ".heif", ".avif")
"""The suffixes of unsupported image formats. They are inputs too, so that they are reported instead of ignored."""

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
"""The suffixes of videos, in lower case."""


def kind_of(path: Path) -> Literal["image", "video"] | None:
    """Classify a path by its suffix, in upper or lower case."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES + FOREIGN_IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def is_input(path: Path) -> bool:
    """Whether a path found in a folder is an input: a visible file with the suffix of an image or a video.

    Hidden files are never inputs: systems and programs keep metadata in them (``._photo.jpg``). A broken link is one,
    and is reported as missing later. A folder is not.
    """
    return kind_of(path) is not None and not path.name.startswith(".") and not os.path.isdir(path)


def images_among(paths: Iterable[Path]) -> list[Path]:
    """Select the input images among paths, sorted by name."""
    return sorted(path for path in paths if kind_of(path) == "image" and is_input(path))


def list_images(folder: str | Path) -> list[Path]:
    """List the input images directly in a folder, sorted by name.

    Raises:
        DatasetError: if the folder does not exist or cannot be read.
    """
    try:
        return images_among(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{printable(folder)} must be an existing folder") from error
    except OSError as error:
        raise DatasetError(f"{printable(folder)} cannot be read: {error.strerror or error}") from error
