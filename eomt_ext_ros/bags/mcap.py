"""Reading MCAP files record by record, past damage: no index is needed, and a file may end anywhere.

Source: the MCAP specification (mcap.dev/spec). The readers at hand give a file up when its footer is missing, as it is
whenever a recording computer lost power.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags.storage import Location, Topic, unzstd, zstd

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 1 << 30
"""Chunks that claim to hold more than 1 GiB are reported, not decompressed: recorders write a few megabytes."""

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX = 2, 3, 4, 5, 6, 7, 8
_HEADER = struct.Struct("<BQ")  # opcode, length
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK_HEAD = struct.Struct("<QQQII")  # first, last log time, uncompressed size, crc, length of a name
_LONGEST_NAME = 16  # of a compression
_FOOTER_BYTES = _HEADER.size + 20 + len(MAGIC)
_CACHED_CHUNKS = 4


@dataclass
class _Chunk:
    start: int  # of the compressed bytes in the file
    stored_size: int  # that are there
    size: int  # uncompressed
    crc: int
    compression: str
    first_ns: int
    last_ns: int
    whole: bool
    channels: set[int] = field(default_factory=set)  # named by the message indexes that follow

    def __str__(self) -> str:
        return f"the chunk of {self.stored_size} bytes at offset {self.start}"


class _DamageError(Exception):
    """Bytes that break the specification."""


class McapFile:
    """An ``.mcap`` file; see :class:`~eomt_ext_ros.bags.storage.Storage`.

    Chunks are walked over without reading them; only those that may hold a wanted message are decompressed.
    """

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[int, str, str]] = {}  # schema, topic, message encoding
        self._chunks: list[_Chunk] = []
        self._loose: list[tuple[int, int, int, int]] = []  # messages outside chunks: channel, time, offset, size
        self._opened: OrderedDict[int, bytes] = OrderedDict()
        self._spoilt: set[int] = set()
        self._walk()

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics met so far, by name. Those that only damaged parts declare are unknown."""
        if self._chunks and not self._channels:
            list(self._messages(0))  # a file without a summary declares its topics in its chunks
        return {name: Topic(name, self._schemas.get(schema, "")) for schema, name, _ in self._channels.values()}

    @property
    def start_ns(self) -> int | None:
        """When the first message was received."""
        # A chunk without messages says 0 for both, or has its first time after its last.
        spans = [chunk.first_ns for chunk in self._chunks if chunk.last_ns >= chunk.first_ns and chunk.last_ns > 0]
        return min([*spans, *(time_ns for _, time_ns, _, _ in self._loose)], default=None)

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find messages; decompresses every chunk that may hold one."""
        found = []
        for number, chunk in enumerate(self._chunks):
            outside = chunk.last_ns > 0 and (chunk.last_ns < start_ns or chunk.first_ns >= stop_ns)
            known = [self._channels.get(channel) for channel in chunk.channels]
            foreign = bool(known) and all(entry is not None and entry[1] not in topics for entry in known)
            if chunk.whole and (outside or foreign):
                continue
            found += [(number, *message) for message in self._messages(number)]
        found += [(-1, *message) for message in self._loose]
        locations = []
        for block, channel, time_ns, offset, size in found:
            _, topic, encoding = self._channels.get(channel, (0, "", ""))
            if topic in topics and start_ns <= time_ns < stop_ns:
                if encoding != "cdr":
                    self._report(f"topic {topic} is encoded as {encoding!r}, only 'cdr' can be read")
                else:
                    locations.append(Location(topic, time_ns, block, offset, size))
        return locations

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message."""
        if location.block < 0:
            return self._bytes(location.offset, location.size)
        return self._content(location.block)[location.offset : location.offset + location.size]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # -- the file -----------------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        """Note every chunk and every message outside one, going around what is damaged."""
        if self._bytes(0, len(MAGIC)) != MAGIC:
            self._report("it does not begin as an MCAP file does")
        anchors = self._summary()
        position = len(MAGIC)
        while True:
            try:
                following = self._step(position)
            except (_DamageError, struct.error, UnicodeDecodeError) as damage:
                following = min((anchor for anchor in anchors if anchor > position), default=0)
                lost = (following or self._size) - position
                reason = damage if isinstance(damage, _DamageError) else f"a record is damaged ({damage})"
                self._report(f"{reason}; {lost} bytes from offset {position} on are lost")
                if not following:
                    return
            if following is None:
                return
            position = following

    def _step(self, position: int) -> int | None:
        """Take in the record at a position and return that of the next one, or None after the footer."""
        opcode, size = self._head(position)
        body, end = position + _HEADER.size, position + _HEADER.size + size
        if opcode == _FOOTER:
            if self._bytes(end, len(MAGIC)) != MAGIC:
                raise _DamageError("the file ends within its footer")
            return None
        if opcode == 0:
            raise _DamageError("a record has the opcode 0")
        if opcode == _MESSAGE and size < _MESSAGE_HEAD.size:
            raise _DamageError(f"a message has {size} bytes, too few even for an empty one")
        if end > self._size and opcode != _CHUNK:
            raise _DamageError(f"a record claims {size} bytes, the file has {self._size - body} more")
        if opcode in (_SCHEMA, _CHANNEL):
            self._declare(opcode, self._bytes(body, size))
        elif opcode == _MESSAGE:
            channel, _, time_ns, _ = _MESSAGE_HEAD.unpack(self._bytes(body, _MESSAGE_HEAD.size))
            self._loose.append((channel, time_ns, body + _MESSAGE_HEAD.size, size - _MESSAGE_HEAD.size))
        elif opcode == _CHUNK:
            self._chunks.append(self._chunk_at(body, end))
            if end > self._size:
                raise _DamageError(f"the file ends in the middle of {self._chunks[-1]}")
        elif opcode == _MESSAGE_INDEX and self._chunks:
            channel, length = struct.unpack("<HI", self._bytes(body, 6))
            if length:
                self._chunks[-1].channels.add(channel)
        return end

    def _head(self, position: int) -> tuple[int, int]:
        head = self._bytes(position, _HEADER.size)
        if len(head) < _HEADER.size:
            raise _DamageError("the file ends without a footer")
        opcode, size = _HEADER.unpack(head)
        return opcode, size

    def _chunk_at(self, body: int, end: int) -> _Chunk:
        if end - body < _CHUNK_HEAD.size + 8:
            raise _DamageError(f"a chunk has {end - body} bytes, too few even for an empty one")
        first_ns, last_ns, size, crc, length = _CHUNK_HEAD.unpack(self._bytes(body, _CHUNK_HEAD.size))
        if length > _LONGEST_NAME:
            raise _DamageError(f"a chunk's compression has a name of {length} bytes")
        rest = self._bytes(body + _CHUNK_HEAD.size, length + 8)
        compression, (stored,) = rest[:length].decode(), struct.unpack("<Q", rest[length:])
        start = body + _CHUNK_HEAD.size + length + 8
        if start + stored != end:
            raise _DamageError(f"a chunk of {end - start} bytes claims {stored}")
        there = min(end, self._size) - start
        return _Chunk(start, there, size, crc, compression, first_ns, last_ns, whole=end <= self._size)

    def _summary(self) -> list[int]:
        """The offsets of the chunks by the summary at the end, where it can be read; its topics are taken in too."""
        anchors: list[int] = []
        footer = self._bytes(max(self._size - _FOOTER_BYTES, 0), _FOOTER_BYTES)
        if len(footer) < _FOOTER_BYTES or footer[-len(MAGIC) :] != MAGIC or footer[0] != _FOOTER:
            return anchors
        (position,) = struct.unpack_from("<Q", footer, _HEADER.size)
        try:
            while 0 < position < self._size - _FOOTER_BYTES:
                opcode, size = self._head(position)
                if position + _HEADER.size + size > self._size:
                    raise _DamageError("it claims more than there is")
                if opcode in (_SCHEMA, _CHANNEL, _CHUNK_INDEX):
                    data = self._bytes(position + _HEADER.size, size)
                    if opcode == _CHUNK_INDEX:
                        anchors.append(struct.unpack_from("<QQQ", data)[2])
                    else:
                        self._declare(opcode, data)
                position += _HEADER.size + size
        except (_DamageError, struct.error, UnicodeDecodeError) as damage:
            self._report(f"its summary is damaged ({damage})")
        return anchors

    def _declare(self, opcode: int, data: bytes) -> None:
        """Take in a schema or a channel."""
        if opcode == _SCHEMA:
            (number,) = struct.unpack_from("<H", data)
            self._schemas[number] = _text(data, 2)[0]
        else:
            number, schema = struct.unpack_from("<HH", data)
            topic, offset = _text(data, 4)
            self._channels[number] = (schema, topic, _text(data, offset)[0])

    def _bytes(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(max(min(size, self._size - offset), 0))

    def _report(self, problem: str) -> None:
        line = f"{self._path.name}: {problem}"
        if line not in self.problems:
            self.problems.append(line)

    # -- chunks -------------------------------------------------------------------------------------------------------

    def _messages(self, number: int) -> Iterator[tuple[int, int, int, int]]:
        """Channel, time, offset and size of each message of a chunk; takes in what it declares."""
        chunk = self._chunks[number]
        try:
            content = self._content(number)
        except DatasetError as error:
            if number not in self._spoilt:
                self._spoilt.add(number)
                self.problems.append(str(error))
            return
        position = 0
        try:
            while position + _HEADER.size <= len(content):
                opcode, size = _HEADER.unpack_from(content, position)
                body, position = position + _HEADER.size, position + _HEADER.size + size
                if position > len(content):
                    break
                if opcode in (_SCHEMA, _CHANNEL):
                    self._declare(opcode, content[body:position])
                elif opcode == _MESSAGE and size >= _MESSAGE_HEAD.size:
                    channel, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(content, body)
                    yield channel, time_ns, body + _MESSAGE_HEAD.size, size - _MESSAGE_HEAD.size
        except (struct.error, UnicodeDecodeError) as damage:
            self._report(f"{chunk}: a record at {position} is damaged ({damage})")
            return
        if position != len(content) and chunk.whole:
            self._report(f"{chunk}: a record claims {position - len(content)} bytes more than there are")

    def _content(self, number: int) -> bytes:
        """The bytes of a chunk, decompressed; of one that the end of the file cuts off, those that are there."""
        if number in self._opened:
            self._opened.move_to_end(number)
            return self._opened[number]
        chunk = self._chunks[number]
        try:
            content = _inflate(self._bytes(chunk.start, chunk.stored_size), chunk)
        except (_DamageError, zstd.ZstdError, RuntimeError, MemoryError) as damage:
            raise DatasetError(f"{self._path.name}: {chunk} cannot be decompressed ({damage})") from damage
        if chunk.whole and len(content) != chunk.size:
            raise DatasetError(f"{self._path.name}: {chunk} must hold {chunk.size} bytes, got {len(content)}")
        if chunk.whole and chunk.crc and zlib.crc32(content) != chunk.crc:
            raise DatasetError(f"{self._path.name}: {chunk} does not match its checksum")
        self._opened[number] = content
        if len(self._opened) > _CACHED_CHUNKS:
            self._opened.popitem(last=False)
        return content


def _inflate(data: bytes, chunk: _Chunk) -> bytes:
    if chunk.size > MAX_CHUNK_BYTES:
        raise _DamageError(f"it claims to hold {chunk.size} bytes")
    if chunk.compression == "":
        return data
    if chunk.compression == "zstd":
        return unzstd(data, chunk.size)[0] if data else b""
    if chunk.compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        return bytes(LZ4FrameDecompressor().decompress(data, max_length=chunk.size))
    raise _DamageError(f"its compression is {chunk.compression!r}, known are zstd and lz4")


def _text(data: bytes, offset: int) -> tuple[str, int]:
    """The string at an offset, and the offset after it."""
    (length,) = struct.unpack_from("<I", data, offset)
    end = offset + 4 + length
    if end > len(data):
        raise struct.error(f"a text of {length} bytes in a record of {len(data)}")
    return data[offset + 4 : end].decode(), end
