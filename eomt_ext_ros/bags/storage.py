"""What the readers of both storage formats agree on: where a message lies, and how damage is reported."""

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
    """Where a message lies in its file: ``block`` is the chunk (mcap; -1: none) or 0, ``offset`` that within it, or
    the row (sqlite3); ``size`` is in bytes, 0 if only the row knows it.
    """

    topic: str
    time_ns: int
    block: int
    offset: int
    size: int = 0


class Problems:
    """What is wrong with a file, a line for each: none twice, and those beyond ``most`` only counted."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._lines: dict[str, None] = {}
        self._more = 0

    def add(self, problem: str) -> None:
        """Take in a problem."""
        line = f"{self._name}: {problem}"
        if line not in self._lines and len(self._lines) == self._most:
            self._more += 1
        else:
            self._lines[line] = None

    @property
    def lines(self) -> list[str]:
        """The problems so far."""
        return [*self._lines, *([f"{self._name}: and {self._more} problems more"] if self._more else [])]


class Storage(Protocol):
    """A file of a bag, read as far as it can be. What cannot be is in ``problems``."""

    problems: Problems

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics met so far, by name."""

    @property
    def start_ns(self) -> int | None:
        """When the first message of any topic was received, or None if there is none."""

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find the messages of some topics received in ``[start_ns, stop_ns)``, in the order of the file."""

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message; ``DatasetError`` if they cannot be read."""

    def close(self) -> None:
        """Close the file."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises ``OSError`` for what cannot be opened or is no file, without waiting for a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no file, but a folder, pipe or device")
    return os.fdopen(descriptor, "rb")


def type_name(name: str) -> str:
    """The name of a message type as ROS 2 has it; some writers leave the middle out.

    >>> type_name("sensor_msgs/Image"), type_name("sensor_msgs/msg/Image")
    ('sensor_msgs/msg/Image', 'sensor_msgs/msg/Image')
    """
    package, slash, kind = name.partition("/")
    return f"{package}/msg/{kind}" if slash and "/" not in kind else name
