"""Chunks of MCAP files: their heads, and their content, decompressed within limits."""

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
"""Returns the bytes of a file from an offset, at most a given number: fewer at its end."""


class DamageError(Exception):
    """Bytes violate the specification."""


@dataclass(eq=False)
class Chunk:
    """A chunk as described by its head.

    ``record``: offset of its record in the file; ``start``, ``stored_size``: of the compressed bytes in the file;
    ``size``, ``crc``: uncompressed; ``first_ns``, ``last_ns``: its times; ``is_complete``: whether the file holds all
    of it; ``channels``: message counts, from the message indexes that follow it.
    """

    record: int
    start: int
    stored_size: int
    size: int
    crc: int
    compression: str
    first_ns: int
    last_ns: int
    is_complete: bool
    channels: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"the chunk of {self.stored_size} bytes at offset {self.start}"


def read_chunk(read: Read, record: int, body: int, end: int, file_size: int) -> Chunk:
    """Read the head of the chunk with its record at ``record`` and its content from ``body`` to ``end``.

    Raises ``DamageError``, ``struct.error`` or ``UnicodeDecodeError`` if it is damaged.
    """
    if end - body < _HEAD.size + 8:
        raise DamageError(f"a chunk has only {end - body} bytes")
    first_ns, last_ns, size, crc, length = _HEAD.unpack(read(body, _HEAD.size))
    if length > _LONGEST_NAME:
        raise DamageError(f"the name of a chunk's compression has {length} bytes")
    remainder = read(body + _HEAD.size, length + 8)
    compression, (stored,) = remainder[:length].decode(), struct.unpack("<Q", remainder[length:])
    start = body + _HEAD.size + length + 8
    if start + stored != end:
        raise DamageError(f"a chunk of {end - start} bytes claims {stored}")
    available = min(end, file_size) - start
    return Chunk(record, start, available, size, crc, compression, first_ns, last_ns, end <= file_size)


class OpenChunks:
    """A cache of the contents of the chunks read last.

    Args:
        read: of the file.
        allowance: the budget for decompression.
    """

    def __init__(self, read: Read, allowance: Allowance) -> None:
        self._read = read
        self._allowance = allowance
        self._contents: OrderedDict[Chunk, bytes] = OrderedDict()

    def content(self, chunk: Chunk) -> bytes:
        """Return the decompressed bytes of a chunk; those that exist, if the file ends inside it.

        Raises ``DatasetError`` if it is damaged, too large, or has an unknown compression.
        """
        if chunk in self._contents:
            self._contents.move_to_end(chunk)
            return self._contents[chunk]
        most = self._allowance.limits.chunk_bytes
        if max(chunk.size, chunk.stored_size) > most:
            raise DatasetError(f"{chunk} must have at most {most} bytes, it claims {chunk.size}")
        while len(self._contents) == _OPEN_CHUNKS or chunk.size + sum(map(len, self._contents.values())) > most:
            self._contents.popitem(last=False)
        content, problem = self._decompress(chunk)
        if chunk.is_complete and problem:
            raise DatasetError(f"{chunk} cannot be decompressed: {problem}")
        if chunk.is_complete and len(content) != chunk.size:
            raise DatasetError(f"{chunk} must contain {chunk.size} bytes, got {len(content)}")
        if chunk.is_complete and chunk.crc and zlib.crc32(content) != chunk.crc:
            raise DatasetError(f"{chunk} does not match its checksum")
        self._contents[chunk] = content
        return content

    def _decompress(self, chunk: Chunk) -> tuple[bytes, str]:
        """Return the bytes and the problem with them, or an empty string."""
        if chunk.compression == "":
            self._allowance.spend(chunk.stored_size)
            return self._read(chunk.start, chunk.stored_size), ""
        if chunk.compression not in _DECOMPRESSORS:
            raise DatasetError(f"{chunk}: its compression must be zstd or lz4, got {chunk.compression!r}")
        stored, start = self._read(chunk.start, chunk.stored_size), _DECOMPRESSORS[chunk.compression]
        return inflate_all(stored, start, chunk.size, self._allowance.spend)
