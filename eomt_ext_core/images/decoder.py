"""The only decoder of images, for files and for messages.

All images pass :func:`decode`. Pixels keep their stored positions if labels, a camera's calibration or a recording
refer to them. Only ``predict`` and the demonstration turn photographs upright, by their EXIF orientation.

OpenCV gets bytes, never a path: it ends the process for a name that is not UTF-8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.files import printable
from eomt_ext_core.images.formats import IMAGE_KINDS, read_header
from eomt_ext_core.images.limits import DEFAULT_LIMITS, ImageLimits
from eomt_ext_core.images.opening import read_file


def decode(
    data: bytes, flags: int, limits: ImageLimits = DEFAULT_LIMITS, kinds: tuple[str, ...] = IMAGE_KINDS
) -> NDArray[Any]:
    """Check the header of an image file, then decode it.

    Args:
        data: the whole file.
        flags: OpenCV's ``IMREAD_`` flags.
        limits: on size and work.
        kinds: formats to accept, of ``IMAGE_KINDS``.

    Returns:
        (H, W) or (H, W, channels) in OpenCV's order (BGR, BGRA), of the type given by the flags.

    Raises:
        ImageError: with the reasons of :func:`~eomt_ext_core.images.formats.read_header`; ``"decode"`` also if
            OpenCV cannot decode it.
        MemoryError: if OpenCV runs out of memory.
    """
    header = read_header(data, limits, kinds)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        text = f"OpenCV cannot decode this {header.kind} image: {error}"
        raise MemoryError(text) if opencv_lacks_memory(error) else ImageError(text, "decode") from None
    stored = header.height, header.width
    if pixels is None or pixels.shape[:2] not in (stored, stored[::-1] if turns(flags) else stored):
        raise ImageError(f"OpenCV cannot decode this {header.kind} image of {len(data)} bytes", "decode")
    return np.asarray(pixels)


def decode_rgb(
    data: bytes,
    *,
    turn: bool = False,
    limits: ImageLimits = DEFAULT_LIMITS,
    kinds: tuple[str, ...] = IMAGE_KINDS,
) -> NDArray[np.uint8]:
    """Decode a whole image file to a contiguous (H, W, 3) uint8 RGB array.

    Grey images have equal channels, 16 bit channels keep their upper 8 bits, alpha is dropped. ``turn``: apply the
    orientation in the file. Raises the errors of :func:`decode`.
    """
    pixels = decode(data, cv2.IMREAD_COLOR | (0 if turn else cv2.IMREAD_IGNORE_ORIENTATION), limits, kinds)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ImageError(f"OpenCV must decode to (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}", "decode")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), dtype=np.uint8)


def read_rgb(path: str | Path, *, turn: bool = False, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 RGB.

    Args:
        path: of a JPEG, PNG, WebP or BMP file with any suffix.
        turn: apply the EXIF orientation; not for images with labels, which refer to the stored pixels.
        limits: on size and work.

    Raises:
        ImageError: naming the file, if it cannot be read, is truncated, exceeds a limit, or has another format.
    """
    data = read_file(path, limits.max_file_bytes)
    try:
        return decode_rgb(data, turn=turn, limits=limits)
    except ImageError as error:
        raise ImageError(f"{printable(path)}: {error}", error.reason) from error
    except MemoryError as error:
        raise ImageError(f"{printable(path)}: out of memory: {error}", "memory") from error


def read_unchanged(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[Any]:
    """Read an image file with its own channels (BGR, BGRA or grey) and depth, without turning it.

    Raises:
        ImageError: like :func:`read_rgb`.
    """
    data = read_file(path, limits.max_file_bytes)
    try:
        return decode(data, cv2.IMREAD_UNCHANGED, limits)
    except ImageError as error:
        raise ImageError(f"{printable(path)}: {error}", error.reason) from error
    except MemoryError as error:
        raise ImageError(f"{printable(path)}: out of memory: {error}", "memory") from error


def read_label_values(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Read a label map as (H, W) uint8 with the stored values; three equal channels count as one.

    Raises:
        ImageError: like :func:`read_rgb`.
        DatasetError: naming the file, if it has more than 8 bits or colours.
    """
    values = read_unchanged(path, limits)
    if values.dtype != np.uint8:
        raise DatasetError(f"{printable(path)}: labels must have 8 bits, got {values.dtype}")
    if values.ndim == 3:
        if any((values[..., channel] != values[..., 0]).any() for channel in (1, 2)):
            raise DatasetError(
                f"{printable(path)}: labels must be grey, got colours: use the label ids, not the coloured version"
            )
        values = values[..., 0]
    return np.asarray(values, dtype=np.uint8)


def opencv_lacks_memory(error: cv2.error) -> bool:
    """Whether OpenCV ran out of memory. Its attribute ``code`` cannot tell: all threads share it."""
    return f"({cv2.Error.StsNoMem}:" in str(error)


def turns(flags: int) -> bool:
    """Whether OpenCV applies the orientation in a file with these ``IMREAD_`` flags."""
    return flags != cv2.IMREAD_UNCHANGED and not flags & cv2.IMREAD_IGNORE_ORIENTATION
