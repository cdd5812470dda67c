"""The size that a JPEG or PNG file declares, read without decoding it.

A file of a few hundred bytes can declare an image of gigabytes, and decoders differ in what they return for a file that
was cut short. Both are found here, before a decoder sees the file.
"""

from __future__ import annotations

import re

from eomt_ext_core.errors import ImageError

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END_OF_IMAGE = b"\xff\xd9"
_JPEG_START_OF_SCAN = 0xDA
# Start-of-frame markers: 0xC0 to 0xCF without DHT (C4), JPG (C8) and DAC (CC); ITU-T T.81, table B.1.
_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM and RST0 to RST7: the markers that carry no length.
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_FILL = re.compile(rb"\xff+")
_MOST_JPEG_SEGMENTS = 10_000  # a header of 600 MB if they are full; each takes time, also where they are empty

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xae\x42\x60\x82"


def declared_size_hw(data: bytes) -> tuple[int, int]:
    """Height and width in pixels that a complete JPEG or PNG file declares in its header.

    Raises ``ImageError`` with the reason ``"encoding"`` where the bytes are neither JPEG nor PNG, and ``"decode"``
    where the header is damaged or the file ends early. A JPEG carries no checksum: damage inside its scan data is not
    seen. Sources: ITU-T T.81, annex B (JPEG); W3C PNG Specification, third edition, sections 5 and 11.2.

    >>> declared_size_hw(b"GIF89a")
    Traceback (most recent call last):
        ...
    eomt_ext_core.errors.ImageError: compressed images must be JPEG or PNG, got 6 bytes of another kind
    """
    if data.startswith(_JPEG_START):
        return _jpeg_size_hw(data)
    if data.startswith(_PNG_START):
        return _png_size_hw(data)
    raise ImageError(f"compressed images must be JPEG or PNG, got {len(data)} bytes of another kind", "encoding")


def _jpeg_size_hw(data: bytes) -> tuple[int, int]:
    size_hw: tuple[int, int] | None = None
    position = len(_JPEG_START) - 1
    for _ in range(_MOST_JPEG_SEGMENTS):
        fill = _JPEG_FILL.match(data, position)  # any number of bytes before the marker
        if fill is None or fill.end() + 3 > len(data):
            break
        position = fill.end() - 1
        marker = data[position + 1]
        if marker in _JPEG_STANDALONE:
            position += 2
            continue
        if marker in _JPEG_START_OF_FRAME and position + 9 <= len(data):
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            size_hw = height, width
        if marker == _JPEG_START_OF_SCAN:
            # Scan data never holds an end marker, but a thumbnail in the header does: search from here.
            if size_hw is not None and data.find(_JPEG_END_OF_IMAGE, position) >= 0:
                return size_hw
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ImageError(f"a JPEG image must run from its header to an end marker, got {len(data)} damaged bytes", "decode")


def _png_size_hw(data: bytes) -> tuple[int, int]:
    header = len(_PNG_START)
    if data[header + 4 : header + 8] != b"IHDR" or data.find(_PNG_END, header + 16) < 0:
        raise ImageError(f"a PNG image must run from IHDR to IEND, got {len(data)} damaged bytes", "decode")
    width = int.from_bytes(data[header + 8 : header + 12], "big")
    height = int.from_bytes(data[header + 12 : header + 16], "big")
    return height, width
