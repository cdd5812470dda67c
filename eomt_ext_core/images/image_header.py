"""The header of an image file, known before the image is decoded."""

from __future__ import annotations

from typing import NamedTuple


class ImageHeader(NamedTuple):
    """The declarations of an image file.

    Attributes:
        kind: the format, one of ``IMAGE_KINDS``.
        height: in pixels, as stored.
        width: in pixels, as stored.
        decoded_bytes: size of the decoded pixels with the channels and depth of the file.
        scan_blocks: blocks of 8 x 8 coefficients in all scans of a JPEG image; 0 for other formats.
    """

    kind: str
    height: int
    width: int
    decoded_bytes: int
    scan_blocks: int = 0
