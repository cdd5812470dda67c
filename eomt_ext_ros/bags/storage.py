"""The common interface of both storage formats: locations of messages, and reports of damage."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol


class Topic(NamedTuple):
    """A topic of a bag: its name and the type of its messages, such as ``sensor_msgs/msg/Image``."""

    name: str
    msgtype: str


class Location(NamedTuple):
    """The place of a message in its file: ``block`` is the chunk (mcap; -1: none) or 0; ``offset`` is in the chunk or
    file (mcap), or the row (sqlite3); ``size`` is in bytes, 0 if it is not known.
    """

    topic: str
    time_ns: int
    block: int
    offset: int
    size: int = 0


class Problems:
    """The problems of a file, a line each, without repetitions; those beyond ``most`` are only counted."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._lines: dict[str, None] = {}
        self._more = 0

    def add(self, problem: str) -> None:
        """Add a problem."""
        line = f"{self._name}: {problem}"
        if line not in self._lines and len(self._lines) == self._most:
            self._more += 1
        else:
            self._lines[line] = None

    @property
    def lines(self) -> list[str]:
        """The problems so far."""
        return [*self._lines, *([f"{self._name}: and {self._more} more problems"] if self._more else [])]


class Storage(Protocol):
    """A file of a bag, read as far as possible; ``problems`` lists what could not be read."""

    problems: Problems

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics found so far, by name."""

    @property
    def start_ns(self) -> int | None:
        """The time at which the first message was received, of any topic; None if there is none."""

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find the messages of some topics received in ``[start_ns, stop_ns)``, in the order of the file."""

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message; ``DatasetError`` if they cannot be read."""

    def close(self) -> None:
        """Close the file."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, without waiting for a pipe. Raises ``OSError`` if that fails or it is not a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it must be a file, got a folder, pipe or device")
    return os.fdopen(descriptor, "rb")


def type_name(name: str) -> str:
    """Complete the name of a message type: some writers leave the middle part out.

    >>> type_name("sensor_msgs/Image"), type_name("sensor_msgs/msg/Image")
    ('sensor_msgs/msg/Image', 'sensor_msgs/msg/Image')
    """
    package, slash, kind = name.partition("/")
    return f"{package}/msg/{kind}" if slash and "/" not in kind else name
