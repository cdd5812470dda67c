"""The chunks of MCAP files: their heads, and what is in them, decompressed within bounds."""

from __future__ import annotations

import struct
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags.compression import inflate_all, start_lz4, start_zstd
from eomt_ext_ros.bags.limits import Allowance

_HEAD = struct.Struct("<QQQII")  # first, last log time, uncompressed size, crc, length of a name
_LONGEST_NAME = 16  # of a compression
_OPEN_CHUNKS = 4
_DECOMPRESSORS = {"zstd": start_zstd, "lz4": start_lz4}

Read = Callable[[int, int], bytes]
"""Gives the bytes of a file from an offset on, up to a number: fewer at its end."""


class DamageError(Exception):
    """Bytes that break the specification."""


@dataclass(eq=False)
class Chunk:
    """A chunk as its head describes it.

    ``record``: where its record begins in the file; ``start``, ``stored_size``: of the compressed bytes that are there;
    ``size``, ``crc``: uncompressed; ``first_ns``, ``last_ns``: the times in it; ``whole``: whether all of it is there;
    ``channels``: numbers of messages, by the message indexes that follow it.
    """

    record: int
    start: int
    stored_size: int
    size: int
    crc: int
    compression: str
    first_ns: int
    last_ns: int
    whole: bool
    channels: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"the chunk of {self.stored_size} bytes at offset {self.start}"


def read_chunk(read: Read, record: int, body: int, end: int, file_size: int) -> Chunk:
    """Read the head of the chunk whose record begins at ``record``, with its content from ``body`` to ``end``.

    Raises ``DamageError``, ``struct.error`` or ``UnicodeDecodeError`` if it is damaged.
    """
    if end - body < _HEAD.size + 8:
        raise DamageError(f"a chunk has {end - body} bytes, too few even for an empty one")
    first_ns, last_ns, size, crc, length = _HEAD.unpack(read(body, _HEAD.size))
    if length > _LONGEST_NAME:
        raise DamageError(f"a chunk's compression has a name of {length} bytes")
    rest = read(body + _HEAD.size, length + 8)
    compression, (stored,) = rest[:length].decode(), struct.unpack("<Q", rest[length:])
    start = body + _HEAD.size + length + 8
    if start + stored != end:
        raise DamageError(f"a chunk of {end - start} bytes claims {stored}")
    there = min(end, file_size) - start
    return Chunk(record, start, there, size, crc, compression, first_ns, last_ns, end <= file_size)


class OpenChunks:
    """The contents of the chunks that were read last.

    Args:
        read: of the file.
        allowance: what they may cost.
    """

    def __init__(self, read: Read, allowance: Allowance) -> None:
        self._read = read
        self._allowance = allowance
        self._contents: OrderedDict[Chunk, bytes] = OrderedDict()

    def content(self, chunk: Chunk) -> bytes:
        """Return the bytes of a chunk, decompressed; of one that the end of the file cuts off, those that are there.

        Raises ``DatasetError`` if it is damaged, too large, or of an unknown compression.
        """
        if chunk in self._contents:
            self._contents.move_to_end(chunk)
            return self._contents[chunk]
        most = self._allowance.limits.chunk_bytes
        if max(chunk.size, chunk.stored_size) > most:
            raise DatasetError(f"{chunk} claims to hold {chunk.size} bytes, up to {most} are read")
        while len(self._contents) == _OPEN_CHUNKS or chunk.size + sum(map(len, self._contents.values())) > most:
            self._contents.popitem(last=False)
        content, problem = self._decompress(chunk)
        if chunk.whole and problem:
            raise DatasetError(f"{chunk} cannot be decompressed: {problem}")
        if chunk.whole and len(content) != chunk.size:
            raise DatasetError(f"{chunk} must hold {chunk.size} bytes, got {len(content)}")
        if chunk.whole and chunk.crc and zlib.crc32(content) != chunk.crc:
            raise DatasetError(f"{chunk} does not match its checksum")
        self._contents[chunk] = content
        return content

    def _decompress(self, chunk: Chunk) -> tuple[bytes, str]:
        """The bytes, and what is wrong with them, or nothing."""
        if chunk.compression == "":
            self._allowance.spend(chunk.stored_size)
            return self._read(chunk.start, chunk.stored_size), ""
        if chunk.compression not in _DECOMPRESSORS:
            raise DatasetError(f"{chunk}: its compression is {chunk.compression!r}, known are zstd and lz4")
        stored, start = self._read(chunk.start, chunk.stored_size), _DECOMPRESSORS[chunk.compression]
        return inflate_all(stored, start, chunk.size, self._allowance.spend)
