"""What the readers of both storage formats agree on: where a message lies, and how damage is reported."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ZSTD_MAGIC", "Location", "Storage", "Topic", "unzstd", "zstd"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name and the type of its messages, such as ``sensor_msgs/msg/Image``."""

    name: str
    msgtype: str


@dataclass(frozen=True)
class Location:
    """Where a message lies in its file: ``block`` is the chunk (mcap; -1: none) or 0, ``offset`` that within it, or
    the row (sqlite3); ``size`` is in bytes, 0 where only the row knows it.
    """

    topic: str
    time_ns: int
    block: int
    offset: int
    size: int = 0


class Storage(Protocol):
    """A file of a bag, read as far as it can be. What cannot be is said in ``problems``, one line each."""

    problems: list[str]

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics met so far, by name."""

    @property
    def start_ns(self) -> int | None:
        """When the first message of any topic was received, or None where there is none."""

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find the messages of some topics received in ``[start_ns, stop_ns)``, in the order of the file."""

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message; ``DatasetError`` where they cannot be read."""

    def close(self) -> None:
        """Close the file."""


def unzstd(data: bytes | memoryview, most: int) -> tuple[bytes, bool]:
    """Decompress as far as the data go, at most ``most`` bytes; also says whether the end of a frame was reached.

    Raises ``zstd.ZstdError`` where the data are damaged.
    """
    parts: list[bytes] = []
    while True:
        frame = zstd.ZstdDecompressor()
        parts.append(frame.decompress(data, max_length=max(most - sum(map(len, parts)), 0)))
        data = frame.unused_data
        if not frame.eof or not data:
            return b"".join(parts), frame.eof
