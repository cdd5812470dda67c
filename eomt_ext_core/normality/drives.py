"""Recorded drives as images in the order of time: folders and videos here, bags where ROS's side is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError, ImageError
from eomt_ext_core.files import printable
from eomt_ext_core.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoReader, kind_of, list_images, read_rgb

DRIVE_GROUP = "eomt_ext.drives"
"""Entry points of this group are functions of a path and a topic, and give a drive, or None if it is none of theirs."""


class Drive(Protocol):
    """Images in the order of time."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def num_images(self) -> int:
        """How many there are."""
        ...

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """Give every n-th image of a part, each (H, W, 3) uint8 RGB.

        Raises:
            ImageError: naming the file, if one cannot be read.
        """
        ...


@dataclass(frozen=True)
class ImageDrive:
    """Image files, sorted by name."""

    name: str
    files: Sequence[Path]

    @property
    def num_images(self) -> int:
        """How many there are."""
        return len(self.files)

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """See :class:`Drive`."""
        return (read_rgb(file, turn=True) for file in self.files[start:stop:every])


@dataclass(frozen=True)
class VideoDrive:
    """The frames of a video, as many as its file declares."""

    path: Path
    name: str
    num_images: int

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """See :class:`Drive`."""
        with VideoReader(self.path) as video:
            yield from islice(video, start, stop, every)
            ended = video.num_read < stop
            if ended and (problem := video.problem()) is not None:
                raise ImageError(problem, "truncated")


@dataclass(frozen=True)
class MirroredImage:
    """An image and its mirror image: the least that can be learnt from and held out."""

    path: Path
    name: str
    num_images: int = 2

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """See :class:`Drive`."""
        image = read_rgb(self.path, turn=True)
        return islice((image, np.ascontiguousarray(image[:, ::-1])), start, stop, every)


def reference_drive(path: Path) -> Drive:
    """A single ordinary image as a drive."""
    return MirroredImage(path, printable(path.name))


def open_drives(paths: Sequence[Path], topic: str | None = None) -> list[Drive]:
    """Open folders of images, videos, and bags.

    Args:
        paths: of them.
        topic: of the images in bags.

    Raises:
        ConfigError: if a path is none of these, or a bag has no such topic.
        ImageError: if a video cannot be read, or does not say how many frames it has.
    """
    return [_open(path, topic) for path in paths]


def _open(path: Path, topic: str | None) -> Drive:
    if kind_of(path) == "video":
        with VideoReader(path) as video:
            count = video.declared_frames
        if not count:
            raise ImageError(f"{printable(path)} does not say how many frames it has: write it anew as MP4", "encoding")
        return VideoDrive(path, printable(path.name), count)
    for entry in entry_points(group=DRIVE_GROUP):
        drive: Drive | None = entry.load()(path, topic)
        if drive is not None:
            return drive
    files = list_images(path) if path.is_dir() else []
    if files:
        return ImageDrive(printable(path.name), files)
    raise ConfigError(
        f"{printable(path)} must be a video ({' '.join(VIDEO_SUFFIXES)}), a folder of images "
        f"({' '.join(IMAGE_SUFFIXES)}), or a bag, for which the extra 'bags' is needed"
    )
