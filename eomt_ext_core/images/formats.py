"""The supported image formats, and checks before an image is decoded.

A file of a few hundred bytes can declare an image of gigabytes, decoders return different results for truncated files,
and every format adds a decoder that hostile files can attack. So headers are checked here, before a decoder sees the
file. Sources: W3C PNG Specification, third edition, sections 5 and 11.2; RFC 9649 (WebP) and RFC 6386, 9.1 (VP8);
Microsoft's BITMAPINFOHEADER.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images.image_header import ImageHeader
from eomt_ext_core.images.jpeg import read_jpeg
from eomt_ext_core.images.limits import DEFAULT_LIMITS, ImageLimits

IMAGE_KINDS = ("JPEG", "PNG", "WebP", "BMP")
"""The supported formats."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; palettes decode to colours
_PNG_DEPTHS = (1, 2, 4, 8, 16)
_MAX_PNG_CHUNKS = 1 << 17  # the largest image in chunks of 2 kB
_WEBP_ANIMATED = 0x02
_BMP_UNCOMPRESSED = (0, 3, 6)  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS

# Other formats found in files named like images.
_FOREIGN = {
    b"GIF8": "a GIF: save it as PNG", b"II*\0": "a TIFF: save it as PNG", b"MM\0*": "a TIFF: save it as PNG",
    b"\0\0\0\x0cjP": "a JPEG 2000: save it as PNG", b"8BPS": "a PSD: save it as PNG", b"%PDF": "a PDF: save it as PNG",
    b"\0\x05\x16\x07": "a metadata file of macOS", b"<": "a web page or other markup",
    b"version https://git-lfs": "a Git LFS pointer: run git lfs pull",
}  # fmt: skip


def read_header(data: bytes, limits: ImageLimits = DEFAULT_LIMITS, kinds: tuple[str, ...] = IMAGE_KINDS) -> ImageHeader:
    """Read the header of an image file, and check it against the limits.

    Args:
        data: the whole file.
        limits: on size and work.
        kinds: the formats to accept, of ``IMAGE_KINDS``.

    Raises:
        ImageError: reason ``"encoding"`` if the format is not accepted, ``"decode"`` if the header is damaged or the
            file is truncated, ``"dimensions"`` if the image has no pixels or too many, ``"work"`` if decoding it would
            take too long.

    >>> read_header(b"GIF89a")
    Traceback (most recent call last):
        ...
    eomt_ext_core.errors.ImageError: an image must be JPEG, PNG, WebP or BMP, got a GIF: save it as PNG
    """
    kind = _kind_of(data)
    if kind not in kinds:
        raise ImageError(f"an image must be {_listed(kinds)}, got {_foreign_name(data, kind)}", "encoding")
    header = read_jpeg(data, limits) if kind == "JPEG" else _READERS[kind](data)
    _check(header, limits)
    return header


def _check(header: ImageHeader, limits: ImageLimits) -> None:
    height, width = header.height, header.width
    if height < 1 or width < 1 or height * width > limits.max_pixels:
        raise ImageError(
            f"an image must have between 1 and {limits.max_pixels} pixels, got height {height} and width {width}",
            "dimensions",
        )
    if header.decoded_bytes > limits.max_decoded_bytes:
        raise ImageError(
            f"an image must decode to at most {limits.max_decoded_bytes} bytes, got {header.decoded_bytes} "
            f"({header.kind}, height {height}, width {width}): save it with 8 bits a channel",
            "dimensions",
        )
    if header.scan_blocks > limits.max_scan_blocks:
        raise ImageError(
            f"the scans of a JPEG image must have at most {limits.max_scan_blocks} blocks, got more (height {height}, "
            f"width {width}): save it as baseline JPEG",
            "work",
        )


def _kind_of(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(_PNG_START):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return "BMP" if data.startswith(b"BM") else ""


def _foreign_name(data: bytes, kind: str) -> str:
    """Name the format of the bytes, without quoting any of them."""
    if data[4:8] == b"ftyp":
        return "a HEIF, AVIF or video file: save an image as PNG"
    if kind:
        return f"a {kind}: save it as PNG"
    named = (name for start, name in _FOREIGN.items() if data.startswith(start))
    return next(named, f"{len(data)} bytes of another kind")


def _listed(kinds: tuple[str, ...]) -> str:
    return " or ".join(part for part in (", ".join(kinds[:-1]), kinds[-1]) if part)


def _read_png(data: bytes) -> ImageHeader:
    """Walk the chunks from IHDR to IEND; the decoder checks their checksums."""
    if data[8:16] == b"\0\0\0\x0dIHDR" and len(data) >= 33:
        width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
        position = 33
        for _ in range(_MAX_PNG_CHUNKS):
            name = data[position + 4 : position + 8]
            position += 12 + int.from_bytes(data[position : position + 4], "big")
            if position > len(data) or colour not in _PNG_CHANNELS or depth not in _PNG_DEPTHS:
                break
            if name == b"acTL":
                raise ImageError("an image must not be animated, got an animated PNG: extract its frames", "encoding")
            if name == b"IEND":
                size = height * width * _PNG_CHANNELS[colour] * (2 if depth == 16 else 1)
                return ImageHeader("PNG", height, width, size)
    raise ImageError(f"a PNG image must go from IHDR to IEND, got {len(data)} damaged bytes", "decode")


def _read_webp(data: bytes) -> ImageHeader:
    width = height = 0
    chunk, body = data[12:16], data[20:30]
    whole = len(body) == 10 and 8 + int.from_bytes(data[4:8], "little") <= len(data)
    if whole and chunk == b"VP8X":
        if body[0] & _WEBP_ANIMATED:
            raise ImageError("an image must not be animated, got an animated WebP: extract its frames", "encoding")
        width, height = (1 + int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
    elif whole and chunk == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif whole and chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    else:
        raise ImageError(
            f"a WebP image must be as long as its header declares, got {len(data)} damaged bytes", "decode"
        )
    return ImageHeader("WebP", height, width, 4 * height * width)


def _read_bmp(data: bytes) -> ImageHeader:
    if len(data) >= 34:
        offset, header_size = struct.unpack_from("<II", data, 10)
        if header_size == 12:  # of OS/2
            width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
            compression = 0
        else:
            width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
        if compression not in _BMP_UNCOMPRESSED:
            raise ImageError(
                f"a BMP image must be uncompressed, got compression {compression}: save it as PNG", "encoding"
            )
        height = abs(height)  # rows from the top if it is negative
        row = (width * depth + 31) // 32 * 4
        if depth in (1, 4, 8, 16, 24, 32) and header_size >= 12 and (width < 1 or offset + row * height <= len(data)):
            return ImageHeader("BMP", height, max(0, width), 4 * height * max(0, width))
    raise ImageError(f"a BMP image must contain all rows that it declares, got {len(data)} damaged bytes", "decode")


_READERS: dict[str, Callable[[bytes], ImageHeader]] = {"PNG": _read_png, "WebP": _read_webp, "BMP": _read_bmp}
