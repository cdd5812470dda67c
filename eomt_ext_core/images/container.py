"""Containers of videos: their kind, and whether the end of the file is missing.

A decoder ends in the same way at the end of a truncated file and at the end of a video. Only the container declares how
long the file should be. Sources: ISO/IEC 14496-12 (boxes, edit lists); Microsoft's AVI RIFF reference; RFC 8794 and
RFC 9559 (Matroska).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from eomt_ext_core.errors import ImageError

VIDEO_KINDS = ("MP4", "AVI", "Matroska")
"""The supported containers; MOV and M4V count as MP4, WebM as Matroska."""

_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_EBML_START = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_MAX_PARTS = 1 << 20  # of a container that are inspected; a fragmented MP4 of a day has half as many
_UNSIZED = (0, 0xFFFFFFFF)  # lengths that recorders write into an AVI until they close it


class Container(NamedTuple):
    """The declarations of a container.

    Attributes:
        kind: one of ``VIDEO_KINDS``.
        missing_bytes: declared bytes of frames beyond the end of the file; 0 if there are none, or no size is declared.
        num_empty: declared frames without content, which repeat the one before; None if the number of frames is not
            exact, because it is estimated from a duration or shortened by an edit list.
    """

    kind: str
    missing_bytes: int
    num_empty: int | None


class _Box(NamedTuple):
    name: bytes
    start: int  # of the content
    end: int


def inspect_container(file: BinaryIO) -> Container:
    """Inspect the structure of a video file, reading only headers and decoding nothing.

    Raises:
        ImageError: reason ``"encoding"`` if its container is not supported.
    """
    size = os.fstat(file.fileno()).st_size
    start = _read(file, 0, 12)
    if start[4:8] in _MP4_FIRST_BOXES:
        return _inspect_mp4(file, size)
    if start[:4] == b"RIFF" and start[8:] == b"AVI ":
        return _inspect_avi(file, size)
    if start[:4] == _EBML_START:
        return Container("Matroska", _missing_of_matroska(file, size), None)
    raise ImageError(f"a video must be {', '.join(VIDEO_KINDS)}, got {size} bytes of another kind", "encoding")


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[_Box]:
    """Yield the boxes between two positions of the file; the last may extend beyond."""
    for _ in range(_MAX_PARTS):
        header = _read(file, position, 16)
        length, content = _number(header[:4]), position + 8
        if length == 1:
            length, content = _number(header[8:16]), position + 16
        if position + 8 > end or len(header) < 8 or (length and length < content - position):
            return
        stop = position + length if length else end
        yield _Box(header[4:8], content, stop)
        position = stop


def _inspect_mp4(file: BinaryIO, size: int) -> Container:
    missing, counted = 0, False
    for box in _boxes(file, 0, size):
        if box.name in (b"moov", b"moof", b"mdat"):
            missing = max(missing, box.end - size)
        if box.name == b"moov" and box.end <= size:
            counted = _is_counted(file, box)
    return Container("MP4", missing, 0 if counted else None)


def _is_counted(file: BinaryIO, moov: _Box) -> bool:
    """Whether there is one video track and its edit list shows every sample."""
    inside = list(_boxes(file, moov.start, moov.end))
    if any(box.name == b"mvex" for box in inside):  # the samples are in fragments
        return False
    tracks = [_parts(file, box) for box in inside if box.name == b"trak"]
    video = [parts for parts in tracks if parts.get(b"hdlr", b"")[8:12] == b"vide"]
    if len(video) != 1:
        return False
    parts = video[0]
    edits = parts.get(b"elst")
    if edits is None:
        return True
    movie_rate, _ = _clock(next((_read(file, box.start, 32) for box in inside if box.name == b"mvhd"), b""), 12)
    media_rate, media_length = _clock(parts.get(b"mdhd", b""), 12)
    wide, count = edits[:1] == b"\1", _number(edits[4:8])
    step = 20 if wide else 12
    half = 8 if wide else 4
    shown = []
    for at in range(8, min(len(edits) - step, 8 + step * count) + 1, step):
        length, begin = _number(edits[at : at + half]), _number(edits[at + half : at + 2 * half])
        if begin != (1 << 8 * half) - 1:  # -1: an empty edit
            shown.append((length, begin))
    if len(shown) != 1 or not movie_rate or not media_rate:
        return False
    length, begin = shown[0]
    delay = _number(parts.get(b"ctts", b"")[12:16])  # of the first frame, where edit lists begin
    return begin <= delay and length / movie_rate >= (media_length - delay) / media_rate - 1.5 / movie_rate


def _parts(file: BinaryIO, track: _Box) -> dict[bytes, bytes]:
    """Read the beginnings of the boxes of a track that are used here."""
    found = {}
    folders = {b"mdia", b"minf", b"stbl", b"edts"}
    pending = [track]
    while pending:
        box = pending.pop()
        for part in _boxes(file, box.start, box.end):
            if part.name in folders:
                pending.append(part._replace(end=min(part.end, box.end)))
            elif part.name in (b"hdlr", b"mdhd", b"elst", b"ctts"):
                found[part.name] = _read(file, part.start, min(4096, max(0, part.end - part.start)))
    return found


def _clock(header: bytes, at: int) -> tuple[int, int]:
    """Return ticks per second and duration in ticks of an ``mvhd`` or ``mdhd`` box."""
    if header[:1] == b"\1":
        return _number(header[at + 8 : at + 12]), _number(header[at + 12 : at + 20])
    return _number(header[at : at + 4]), _number(header[at + 4 : at + 8])


def _inspect_avi(file: BinaryIO, size: int) -> Container:
    """Measure how far the list of frames, ``movi``, extends beyond the end, and count empty frames in the index."""
    missing, num_empty, num_parts = 0, None, 0
    position = 0
    for _ in range(_MAX_PARTS):
        header = _read(file, position, 12)
        if len(header) < 12:
            break
        length = int.from_bytes(header[4:8], "little")
        if header[:4] == b"RIFF":  # the file, and each further gigabyte
            num_parts += 1
            position += 12
            continue
        if header[:4] == b"LIST" and header[8:] == b"movi" and length not in _UNSIZED:
            missing = max(missing, position + 8 + length - size)
        if header[:4] == b"idx1" and length <= 16 * _MAX_PARTS:
            num_empty = _num_empty(_read(file, position + 8, length))
        position += 8 + length + length % 2
    return Container("AVI", missing, num_empty if num_parts == 1 else None)


def _num_empty(index: bytes) -> int:
    """Count the frames of 0 bytes in an ``idx1``, which has an entry for every frame of every stream."""
    entries = struct.iter_unpack("<4sIII", index[: len(index) // 16 * 16])
    return sum(name[2:] in (b"dc", b"db") and not length for name, _, _, length in entries)


def _missing_of_matroska(file: BinaryIO, size: int) -> int:
    """Measure how far the segment, or the last cluster of an unsized segment, extends beyond the end."""
    position = 0
    for _ in range(_MAX_PARTS):
        identifier, length, content = _element(file, position)
        if not identifier or (length is None and identifier != _SEGMENT):
            return 0
        if length is None:
            position = content
            continue
        position = content + length
        if position > size:
            return position - size if identifier in (_SEGMENT, _CLUSTER) else 0
    return 0


def _element(file: BinaryIO, position: int) -> tuple[int, int | None, int]:
    """Return identifier (0: none), length (None: unknown) and start of the content (RFC 8794, 4 to 6)."""
    header = _read(file, position, 12)
    width = _width(header, 4)
    length_width = _width(header[width:], 8)
    if not width or not length_width or width + length_width > len(header):
        return 0, None, position
    length = _number(header[width : width + length_width]) & ((1 << 7 * length_width) - 1)
    known = length != (1 << 7 * length_width) - 1
    return _number(header[:width]), length if known else None, position + width + length_width


def _width(data: bytes, most: int) -> int:
    """Return the bytes of a number, encoded in its first byte; 0 if they are more than ``most``."""
    width = 9 - data[0].bit_length() if data else 0
    return width if width <= most else 0
