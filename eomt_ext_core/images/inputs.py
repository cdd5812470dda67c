"""What an input is, by its name: one definition for every command that is given a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import shown

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""The suffixes of the formats that are read, in lower case."""

FOREIGN_IMAGE_SUFFIXES = (".tif", ".tiff", ".gif", ".jp2", ".heic", ".heif", ".avif")
"""The suffixes of images in formats that are not read: inputs too, so that each is named and not passed over."""

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
"""The suffixes of videos, in lower case."""


def is_image(path: Path) -> bool:
    """Whether a path found in a folder is an input image: a visible file with the suffix of an image.

    Files whose name begins with a dot are never inputs: systems and programs keep notes in them (``._photo.jpg``).
    """
    return _is_file_with(path, IMAGE_SUFFIXES + FOREIGN_IMAGE_SUFFIXES)


def is_video(path: Path) -> bool:
    """Whether a path found in a folder is an input video: a visible file with the suffix of a video."""
    return _is_file_with(path, VIDEO_SUFFIXES)


def images_among(paths: Iterable[Path]) -> list[Path]:
    """The input images among paths, sorted by name."""
    return sorted(path for path in paths if is_image(path))


def list_images(folder: str | Path) -> list[Path]:
    """The input images right in a folder, sorted by name.

    Raises:
        DatasetError: where the folder does not exist or cannot be read.
    """
    try:
        return images_among(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{shown(folder)}: no such folder") from error
    except OSError as error:
        raise DatasetError(f"{shown(folder)} cannot be read: {error.strerror or error}") from error


def _is_file_with(path: Path, suffixes: tuple[str, ...]) -> bool:
    # A link to nothing is an input, which is then found missing; a folder of that name is none.
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and not os.path.isdir(path)
