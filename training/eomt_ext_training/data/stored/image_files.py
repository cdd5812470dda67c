"""Pairs of images and label maps: checked once; broken ones are skipped and reported."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, EomtExtError
from eomt_ext_core.files import printable
from eomt_ext_core.images import read_label_values, read_rgb

Item = TypeVar("Item")

log = logging.getLogger(__name__)


class LabelledFile(NamedTuple):
    """An image file and the file with its label map; ``key`` names the pair within its data set."""

    image: Path
    labels: Path
    key: str


@dataclass(frozen=True)
class Readable(Generic[Item]):
    """The intact items of a list; ``skipped`` has a line for each broken one."""

    kept: tuple[Item, ...]
    skipped: tuple[str, ...]


def readable_pairs(
    pairs: Sequence[LabelledFile], what: str, check_labels: Callable[[Path, NDArray[np.uint8]], None]
) -> Readable[LabelledFile]:
    """Decode every pair once and leave out those that are broken, each named in a warning.

    Args:
        pairs: to look at.
        what: the data set, for messages.
        check_labels: called with every label map; its errors are not caught, as a foreign label value is no accident
            of one file.

    Raises:
        DatasetError: if no pair is left.
    """

    def problem_of(pair: LabelledFile) -> str | None:
        try:
            image, labels = read_rgb(pair.image), read_label_values(pair.labels)
        except EomtExtError as error:
            return str(error)
        if image.shape[:2] != labels.shape:
            name = printable(pair.image)
            return f"{name}: image and labels must have the same size, got {image.shape[:2]} and {labels.shape}"
        check_labels(pair.labels, labels)
        return None

    return split_readable(pairs, problem_of, what)


def split_readable(items: Sequence[Item], problem_of: Callable[[Item], str | None], what: str) -> Readable[Item]:
    """Look at every item once, several at a time, and leave out those with a problem, each named in a warning.

    Raises:
        DatasetError: if none is left.
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
