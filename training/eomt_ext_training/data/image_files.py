"""Images and label maps on disk: found in pairs, checked once, read again and again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, EomtExtError
from eomt_ext_core.evaluation.datasets import read_rgb
from eomt_ext_core.evaluation.datasets.samples import IMAGE_SUFFIXES

Item = TypeVar("Item")

log = logging.getLogger(__name__)


class LabelledFile(NamedTuple):
    """An image file and the file with its label map; ``key`` names the pair within its data set."""

    image: Path
    labels: Path
    key: str


@dataclass(frozen=True)
class Readable(Generic[Item]):
    """What is left of a list once broken items are out; ``skipped`` has a line for each of those."""

    kept: tuple[Item, ...]
    skipped: tuple[str, ...]


def list_images(folder: str | Path) -> list[Path]:
    """The image files right in a folder, sorted by name.

    Raises:
        DatasetError: where the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """A label map as (H, W) uint8, its values as they are stored.

    Raises:
        DatasetError: naming the file where it cannot be read or is no 8-bit image of one channel.
    """
    labels = decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DatasetError(f"{path}: a label map must have one 8-bit channel, got {labels.shape} {labels.dtype}")
    return labels


def readable_pairs(
    pairs: Sequence[LabelledFile], what: str, check_labels: Callable[[Path, NDArray[np.uint8]], None]
) -> Readable[LabelledFile]:
    """Decode every pair once and leave out those that are broken, each named in a warning.

    Args:
        pairs: to look at.
        what: the data set, for messages.
        check_labels: is shown every label map; its errors are not caught, since a foreign label value is no accident
            of one file.

    Raises:
        DatasetError: where no pair is left.
    """

    def problem_of(pair: LabelledFile) -> str | None:
        try:
            check_whole(pair.image)
            image, labels = read_rgb(pair.image), read_label_map(pair.labels)
        except EomtExtError as error:
            return str(error)
        if image.shape[:2] != labels.shape:
            return f"{pair.image}: image and labels must be of one size, got {image.shape[:2]} and {labels.shape}"
        check_labels(pair.labels, labels)
        return None

    return split_readable(pairs, problem_of, what)


def split_readable(items: Sequence[Item], problem_of: Callable[[Item], str | None], what: str) -> Readable[Item]:
    """Look at every item once, several at a time, and leave out those with a problem, each named in a warning.

    Raises:
        DatasetError: where none is left.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes without Python's lock
        problems = list(pool.map(problem_of, items))
    kept = tuple(item for item, problem in zip(items, problems, strict=True) if problem is None)
    skipped = tuple(problem for problem in problems if problem is not None)
    report_skipped(skipped, len(items), what)
    if not kept:
        found = f"all {len(items)} are broken, the first: {skipped[0]}" if skipped else "none were found"
        raise DatasetError(f"{what} must hold at least one image with labels, {found}")
    return Readable(kept, skipped)


def report_skipped(skipped: Sequence[str], total: int, what: str) -> None:
    """Name in the log what was left out, and count it."""
    for line in skipped:
        log.warning("skipped: %s", line)
    if skipped:
        log.warning("%s: skipped %d of %d", what, len(skipped), total)


def check_whole(path: Path) -> None:
    """Refuse a JPEG file that breaks off before its end-of-image marker; other formats do not decode then.

    Raises:
        DatasetError: naming the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    if content.startswith(b"\xff\xd8") and _breaks_off(content):
        raise DatasetError(
            f"{path}: a JPEG file must have an end-of-image marker, got none in {len(content)} bytes: copy it again"
        )


def _breaks_off(jpeg: bytes) -> bool:
    # OpenCV fills the rest of such an image with grey, and its labels would stay valid. The marker is looked for after
    # the headers, where a thumbnail may have one of its own, and not at the end, where cameras append other data.
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] != b"\xda":
        is_filler = jpeg[at + 1 : at + 2] == b"\xff"
        at += 1 if is_filler else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg.find(b"\xff\xd9", at) < 0


def decode(path: Path, flags: int) -> NDArray[Any]:
    """Read an image as OpenCV does (BGR), with its ``IMREAD_`` flags.

    Raises:
        DatasetError: naming the file where it cannot be read.
    """
    try:
        content = np.fromfile(path, np.uint8)  # cv2.imread would print its own warnings
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise DatasetError(f"{path}: not an image, or a damaged one ({content.size} bytes)")
    return np.asarray(image)
