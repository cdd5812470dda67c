"""Reading of MCAP files record by record, past damage: without an index, and from files that end anywhere.

Source: the MCAP specification (mcap.dev/spec). Existing readers reject a file without a footer, which is missing if the
recording computer lost power, and they decompress any size that a file claims.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import printable
from eomt_ext_ros.bags.limits import Allowance, ExhaustedError
from eomt_ext_ros.bags.mcap_chunk import Chunk, DamageError, OpenChunks, read_chunk
from eomt_ext_ros.bags.storage import Location, Problems, Topic, open_regular, type_name

MAGIC = b"\x89MCAP0\r\n"

_HEADER_OPCODE, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX = range(1, 9)
_STATISTICS, _DATA_END, _FIRST_PRIVATE = 0x0B, 0x0F, 0x80
_HEADER = struct.Struct("<BQ")  # opcode, length
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_LONGEST_DECLARATION = 1 << 24  # of a schema, with its text, or a channel
_FOOTER_BYTES = _HEADER.size + 20 + len(MAGIC)

_Message = tuple[int, int, int, int]  # channel, time, offset, size


@dataclass
class _Summary:
    """The summary section at the end of the file."""

    chunks: dict[int, tuple[int, int, frozenset[int]]] = field(default_factory=dict)  # by offset: times, channels
    messages: Counter[int] = field(default_factory=Counter)  # by channel


class McapFile:
    """An ``.mcap`` file; see :class:`~eomt_ext_ros.bags.storage.Storage`.

    Only chunks that may contain a wanted message are read and decompressed.
    """

    def __init__(self, path: Path, allowance: Allowance) -> None:
        self.problems = Problems(printable(path.name), allowance.limits.problems)
        self._allowance = allowance
        self._file = open_regular(path)
        self._size = os.fstat(self._file.fileno()).st_size
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[int, str, str]] = {}  # schema, topic, message encoding
        self._summary = _Summary()
        self._chunks: list[Chunk] = []
        self._loose = array("Q")  # four numbers for each message outside chunks
        self._open_chunks = OpenChunks(self._bytes, allowance)
        self._walk()

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics found so far, by name. Topics declared only in damaged parts are missing."""
        if not self._channels:  # a file without a summary declares its topics in its chunks
            for number in range(len(self._chunks)):
                list(self._messages(number))
        return {name: Topic(name, self._schemas.get(schema, "")) for schema, name, _ in self._channels.values()}

    @property
    def start_ns(self) -> int | None:
        """The time at which the first message was received."""
        # A chunk without messages has both times 0, or its first time after its last.
        spans = [chunk.first_ns for chunk in self._chunks if chunk.last_ns >= chunk.first_ns and chunk.last_ns > 0]
        return min([*spans, *self._loose[1::4]], default=None)

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find messages; decompresses every chunk that may contain one."""
        wanted, found = {"", *topics}, list[tuple[int, _Message]]()
        num_found: Counter[int] = Counter()
        for block, chunk in enumerate(self._chunks):
            if self._is_foreign(chunk, wanted, start_ns, stop_ns):
                num_found.update(chunk.channels)
                continue
            for message in self._messages(block):
                num_found[message[0]] += 1
                if self._topic_of(message[0]) in wanted:
                    found.append((block, message))
        numbers = iter(self._loose)
        for message in zip(numbers, numbers, numbers, numbers, strict=True):
            num_found[message[0]] += 1
            if self._topic_of(message[0]) in topics:
                found.append((-1, message))
        self._report_missing(topics, num_found)
        locations = []
        for block, (channel, time_ns, offset, size) in found:
            topic = self._topic_of(channel)
            if topic in topics and self._channels[channel][2] != "cdr":
                self.problems.add(f"topic {topic} must have the encoding 'cdr', got {self._channels[channel][2]!r}")
            elif topic in topics and start_ns <= time_ns < stop_ns:
                locations.append(Location(topic, time_ns, block, offset, size))
        return locations

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message."""
        if location.size > self._allowance.limits.message_bytes:
            most = self._allowance.limits.message_bytes
            raise DatasetError(f"a message must have at most {most} bytes, got {location.size}")
        if location.block >= 0:
            return self._open_chunks.content(self._chunks[location.block])[
                location.offset : location.offset + location.size
            ]
        self._allowance.spend(location.size)
        return self._bytes(location.offset, location.size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # -- the file -----------------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        """Index all chunks and all messages outside of chunks, skipping damaged parts."""
        if self._bytes(0, len(MAGIC)) != MAGIC:
            self.problems.add("does not begin like an MCAP file" if self._size else "is empty")
        if self._size < len(MAGIC):
            return
        self._read_summary()
        anchors = sorted(self._summary.chunks)
        position, following = len(MAGIC), None
        while True:
            try:
                self._allowance.spend(records=1)
                following = self._step(position)
            except ExhaustedError as error:
                self.problems.add(str(error))
                return
            except (DamageError, struct.error, UnicodeDecodeError) as damage:
                after = bisect_right(anchors, position)
                following = anchors[after] if after < len(anchors) else None
                lost = (self._size if following is None else following) - position
                reason = damage if isinstance(damage, DamageError) else f"a record is damaged ({damage})"
                self.problems.add(f"{reason}; {lost} bytes from offset {position} are lost")
            if following is None:
                return
            position = following

    def _step(self, position: int) -> int | None:
        """Read the record at a position; returns the position of the next one, or None after the footer."""
        opcode, size = self._head(position)
        body, end = position + _HEADER.size, position + _HEADER.size + size
        if opcode == _FOOTER:
            if self._bytes(end, len(MAGIC)) != MAGIC:
                raise DamageError("the file ends inside its footer")
            if end + len(MAGIC) < self._size:
                raise DamageError("the file continues after its footer")
            return None
        if not (_HEADER_OPCODE <= opcode <= _DATA_END or opcode >= _FIRST_PRIVATE):
            raise DamageError(f"a record has the opcode {opcode}")
        if opcode == _MESSAGE and size < _MESSAGE_HEAD.size:
            raise DamageError(f"a message has only {size} bytes")
        if end > self._size and opcode != _CHUNK:
            raise DamageError(f"a record claims {size} bytes, the file has only {self._size - body} more")
        if opcode in (_SCHEMA, _CHANNEL):
            self._declare(opcode, self._declaration(body, size))
        elif opcode == _MESSAGE:
            channel, _, time_ns, _ = _MESSAGE_HEAD.unpack(self._bytes(body, _MESSAGE_HEAD.size))
            self._loose.extend((channel, time_ns, body + _MESSAGE_HEAD.size, size - _MESSAGE_HEAD.size))
        elif opcode == _CHUNK:
            self._chunks.append(read_chunk(self._bytes, position, body, end, self._size))
            if end > self._size:
                raise DamageError(f"the file ends inside {self._chunks[-1]}")
        elif opcode == _MESSAGE_INDEX and self._chunks:
            channel, length = struct.unpack("<HI", self._bytes(body, 6))
            self._chunks[-1].channels[channel] += length // 16
        return end

    def _head(self, position: int) -> tuple[int, int]:
        head = self._bytes(position, _HEADER.size)
        if len(head) < _HEADER.size:
            raise DamageError("the file ends without a footer")
        opcode, size = _HEADER.unpack(head)
        return opcode, size

    def _read_summary(self) -> None:
        """Read topics, chunks and message counts from the summary section, if that is intact."""
        footer = self._bytes(max(self._size - _FOOTER_BYTES, 0), _FOOTER_BYTES)
        if len(footer) < _FOOTER_BYTES or footer[-len(MAGIC) :] != MAGIC or footer[0] != _FOOTER:
            return
        (position,) = struct.unpack_from("<Q", footer, _HEADER.size)
        try:
            while 0 < position < self._size - _FOOTER_BYTES:
                self._allowance.spend(records=1)
                opcode, size = self._head(position)
                body, position = position + _HEADER.size, position + _HEADER.size + size
                if position > self._size:
                    raise DamageError("it is longer than the file")
                if opcode in (_SCHEMA, _CHANNEL):
                    self._declare(opcode, self._declaration(body, size))
                elif opcode == _CHUNK_INDEX:
                    data = self._declaration(body, size)
                    first_ns, last_ns, offset, _, length = struct.unpack_from("<QQQQI", data)
                    channels = (number for number, _ in struct.iter_unpack("<HQ", data[36 : 36 + length]))
                    self._summary.chunks[offset] = (first_ns, last_ns, frozenset(channels))
                elif opcode == _STATISTICS:
                    counts = struct.iter_unpack("<HQ", self._declaration(body, size)[46:])
                    self._summary.messages = Counter(dict(counts))
        except (DamageError, struct.error, UnicodeDecodeError, ExhaustedError) as damage:
            self.problems.add(f"the summary is damaged ({damage})")

    def _declaration(self, body: int, size: int) -> bytes:
        if size > _LONGEST_DECLARATION:
            raise DamageError(f"a record must have at most {_LONGEST_DECLARATION} bytes, got {size}")
        return self._bytes(body, size)

    def _declare(self, opcode: int, data: bytes) -> None:
        """Register a schema or a channel."""
        if opcode == _SCHEMA:
            (number,) = struct.unpack_from("<H", data)
            self._schemas[number] = type_name(self._name(data, 2)[0])
        else:
            number, schema = struct.unpack_from("<HH", data)
            topic, offset = self._name(data, 4)
            channel = (schema, topic, self._name(data, offset)[0])
            if self._channels.get(number, channel) != channel:
                self.problems.add(f"channel {number} is declared twice, for {self._channels[number][1]} and {topic}")
            self._channels[number] = channel

    def _topic_of(self, channel: int) -> str:
        """Return the topic of a channel; empty if the channel is not declared yet."""
        return self._channels[channel][1] if channel in self._channels else ""

    def _name(self, data: bytes, offset: int) -> tuple[str, int]:
        """Return the string at an offset, and the offset after it."""
        (length,) = struct.unpack_from("<I", data, offset)
        end = offset + 4 + length
        if length > self._allowance.limits.name_chars or end > len(data):
            raise struct.error(f"a name of {length} bytes in a record of {len(data)}")
        return data[offset + 4 : end].decode(), end

    def _bytes(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(max(min(size, self._size - offset), 0))

    # -- chunks -------------------------------------------------------------------------------------------------------

    def _is_foreign(self, chunk: Chunk, wanted: set[str], start_ns: int, stop_ns: int) -> bool:
        """Whether a chunk has no wanted message, if its head and the summary agree on its times and channels."""
        indexed = self._summary.chunks.get(chunk.record)
        if not chunk.is_complete or indexed != (chunk.first_ns, chunk.last_ns, frozenset(chunk.channels)):
            return False
        if chunk.last_ns > 0 and (chunk.last_ns < start_ns or chunk.first_ns >= stop_ns):
            return True
        return bool(chunk.channels) and all(self._topic_of(number) not in wanted for number in chunk.channels)

    def _report_missing(self, topics: Collection[str], num_found: Counter[int]) -> None:
        """Report topics with fewer messages than the summary counts, and messages that belong to no topic."""
        for number, expected in self._summary.messages.items():
            topic = self._topic_of(number)
            if num_found[number] < expected and (topic in topics or not topic):
                name = topic or f"channel {number}"
                self.problems.add(f"{name}: only {num_found[number]} of {expected} messages found")
        for number in num_found.keys() - self._channels.keys():
            self.problems.add(f"{num_found[number]} messages on channel {number} are lost: it belongs to no topic")

    def _messages(self, number: int) -> Iterator[_Message]:
        """Yield the messages of a chunk, and register the topics that it declares."""
        chunk, position = self._chunks[number], 0
        try:
            content = self._open_chunks.content(chunk)
            while position + _HEADER.size <= len(content):
                self._allowance.spend(records=1)
                opcode, size = _HEADER.unpack_from(content, position)
                body, end = position + _HEADER.size, position + _HEADER.size + size
                if end > len(content):
                    break
                if opcode in (_SCHEMA, _CHANNEL):
                    self._declare(opcode, content[body:end])
                elif opcode == _MESSAGE:
                    channel, _, time_ns, _ = _MESSAGE_HEAD.unpack(content[body : min(end, body + _MESSAGE_HEAD.size)])
                    yield channel, time_ns, body + _MESSAGE_HEAD.size, size - _MESSAGE_HEAD.size
                position = end
        except DatasetError as error:
            self.problems.add(str(error))
        except (struct.error, UnicodeDecodeError) as damage:
            self.problems.add(f"{chunk}: a record at {position} is damaged ({damage})")
        else:
            if position != len(content) and chunk.is_complete:
                self.problems.add(f"{chunk}: the record at {position} goes beyond the {len(content)} bytes")
