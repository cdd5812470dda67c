"""Decompression in pieces, in bounded memory for any input."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ZSTD_MAGIC", "DamagedFrameError", "inflate", "inflate_all", "start_lz4", "start_zstd"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1 << 20
_LEAST_COST_BYTES = 1 << 15  # starting a frame takes as long as decompressing this much
_INPUT_BYTES = 1 << 15  # input after a frame is copied: many empty frames must not take quadratic time


class DamagedFrameError(Exception):
    """Compressed data are damaged or truncated."""


class _Decompressor(Protocol):
    """A decompressor of one frame, with the interface of the standard library."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def start_zstd() -> _Decompressor:
    """Make a decompressor of a zstd frame."""
    decompressor: _Decompressor = zstd.ZstdDecompressor()
    return decompressor


def start_lz4() -> _Decompressor:
    """Make a decompressor of an lz4 frame."""
    from lz4.frame import LZ4FrameDecompressor

    decompressor: _Decompressor = LZ4FrameDecompressor()
    return decompressor


def inflate(
    read: Callable[[int], bytes], start: Callable[[], _Decompressor], spend: Callable[[int], None]
) -> Iterator[bytes]:
    """Decompress consecutive frames in pieces of at most 1 MiB.

    Args:
        read: returns at most the given number of bytes of the input, none at its end.
        start: makes the decompressor of a frame.
        spend: receives the cost of each piece, in bytes; may raise.

    Raises:
        DamagedFrameError: if the data are damaged or end inside a frame, after all pieces before that.
    """
    frame, data, is_inside = start(), read(_INPUT_BYTES), False
    while data or (is_inside and not frame.needs_input):
        is_inside = True
        try:
            piece = frame.decompress(data, _PIECE_BYTES)
        except (zstd.ZstdError, RuntimeError) as error:  # lz4 raises the latter
            raise DamagedFrameError(f"compressed data are damaged ({error})") from error
        spend(max(len(piece), _LEAST_COST_BYTES))
        yield piece
        data = b""
        if frame.eof:
            data, frame, is_inside = frame.unused_data or b"", start(), False
        if not data and frame.needs_input:
            data = read(_INPUT_BYTES)
    if is_inside:
        raise DamagedFrameError("compressed data are truncated")


def inflate_all(
    data: bytes, start: Callable[[], _Decompressor], most: int, spend: Callable[[int], None]
) -> tuple[bytes, str]:
    """Decompress as much as possible, at most ``most`` bytes; ``start`` and ``spend`` as for ``inflate``.

    Returns:
        the bytes, and the problem of the data, or an empty string.
    """
    content = io.BytesIO()  # returns its bytes without a copy
    try:
        for piece in inflate(io.BytesIO(data).read, start, spend):
            if content.tell() + len(piece) > most:
                return content.getvalue(), f"compressed data contain more than {most} bytes"
            content.write(piece)
    except DamagedFrameError as error:
        return content.getvalue(), str(error)
    return content.getvalue(), ""
