"""Inspection of JPEG files without decoding: their header, and the work that their scans take.

Sources: ITU-T T.81, annexes B (markers), A.2 (blocks and interleaving) and G (progressive mode).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images.image_header import ImageHeader
from eomt_ext_core.images.limits import ImageLimits

_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
# Start-of-frame markers: 0xC0 to 0xCF without DHT (C4), JPG (C8) and DAC (CC); T.81, table B.1.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
# TEM and RST0 to RST7: the markers without a length.
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FILL = re.compile(rb"\xff+")
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # ends the data of a scan
_MAX_SEGMENTS = 10_000  # full segments would be a header of 600 MB; even empty ones take time


class _Component(NamedTuple):
    identifier: int
    across: int  # sampling factors
    down: int


class _Frame(NamedTuple):
    progressive: bool
    height: int
    width: int
    components: tuple[_Component, ...]


def read_jpeg(data: bytes, limits: ImageLimits) -> ImageHeader:
    """Read the frame header and follow the scans to the end of the image.

    Damaged data inside a scan are not detected: JPEG has no checksums. Counting stops above ``limits.max_scan_blocks``.

    Raises:
        ImageError: ``"decode"`` if the file is damaged or truncated, ``"encoding"`` for a process other than
            baseline, sequential or progressive with Huffman codes.
    """
    frame: _Frame | None = None
    position = 2
    for _ in range(_MAX_SEGMENTS):
        fill = _FILL.match(data, position)  # a marker may follow any number of fill bytes
        if fill is None or fill.end() + 3 > len(data):
            break
        position = fill.end() - 1
        marker = data[position + 1]
        if marker in _STANDALONE:
            position += 2
            continue
        if marker in _START_OF_FRAME:
            frame = _read_frame(data, position) or frame
        if marker == _START_OF_SCAN:
            blocks = None if frame is None else _follow_scans(data, position, frame, limits)
            if frame is None or blocks is None:
                break
            return ImageHeader("JPEG", frame.height, frame.width, 3 * frame.height * frame.width, blocks)
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ImageError(f"a JPEG image must go from its header to an end marker, got {len(data)} damaged bytes", "decode")


def _read_frame(data: bytes, position: int) -> _Frame | None:
    """Read the frame header with its marker at ``position``; returns None if it is incomplete."""
    marker, header = data[position + 1], data[position + 4 : position + 10]
    if len(header) < 6:
        return None
    if marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        raise ImageError(
            f"a JPEG image must be baseline, sequential or progressive with Huffman codes, got process {marker - 0xC0} "
            "(lossless, hierarchical or arithmetic): save it again",
            "encoding",
        )
    specifications = data[position + 10 : position + 10 + 3 * header[5]]
    components = tuple(
        _Component(specifications[at], specifications[at + 1] >> 4, specifications[at + 1] & 15)
        for at in range(0, len(specifications) - 2, 3)
    )
    if len(components) != header[5] or not components:
        return None
    if any(not (1 <= part.across <= 4 and 1 <= part.down <= 4) for part in components):
        return None
    height, width = int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big")
    return _Frame(marker == _PROGRESSIVE, height, width, components)


def _follow_scans(data: bytes, position: int, frame: _Frame, limits: ImageLimits) -> int | None:
    """Count the blocks that a decoder visits; returns None if the file is truncated."""
    blocks = 0
    for _ in range(_MAX_SEGMENTS):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == _START_OF_SCAN:
            scan = data[position + 4 : position + 2 + length]
            chosen = _components_of(scan, frame)
            if not chosen:
                return None
            blocks += _blocks_of(chosen, frame)
            if not frame.progressive and len(chosen) == len(frame.components) and blocks <= limits.max_scan_blocks:
                # Decoders stop after such a scan. Its data have no end marker, but anything may follow it.
                return blocks if data.find(_END_OF_IMAGE, position) >= 0 else None
            if blocks > limits.max_scan_blocks:
                return blocks
        found = _NEXT_MARKER.search(data, position + 2 + length)
        if found is None:
            return None
        position = found.end() - 2
        if data[position + 1] == _END_OF_IMAGE[1]:
            return blocks
    return None


def _components_of(scan: bytes, frame: _Frame) -> list[_Component]:
    """Read the components of a scan from its header; returns none if it is damaged."""
    count = scan[0] if scan else 0
    if len(scan) < 2 * count + 4:
        return []
    by_identifier = {part.identifier: part for part in frame.components}
    chosen = [by_identifier.get(scan[1 + 2 * number]) for number in range(count)]
    return [] if None in chosen else [part for part in chosen if part is not None]


def _blocks_of(chosen: list[_Component], frame: _Frame) -> int:
    """Count the blocks of 8 x 8 in one scan (T.81, A.2.2 and A.2.3)."""
    across = max(part.across for part in frame.components)
    down = max(part.down for part in frame.components)
    if len(chosen) == 1:
        part = chosen[0]
        rows, columns = -(-frame.height * part.down // down), -(-frame.width * part.across // across)
        return -(-rows // 8) * -(-columns // 8)
    units = -(-frame.height // (8 * down)) * -(-frame.width // (8 * across))
    return units * sum(part.across * part.down for part in chosen)
