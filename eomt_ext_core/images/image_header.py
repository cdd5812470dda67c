"""What is known of an image before it is decoded."""

from __future__ import annotations

from typing import NamedTuple


class ImageHeader(NamedTuple):
    """What the file of an image declares.

    Attributes:
        kind: the format, a name out of ``IMAGE_KINDS``.
        height: in pixels, as stored.
        width: in pixels, as stored.
        decoded_bytes: of the unpacked pixels as the format stores them.
        scan_blocks: blocks of 8 x 8 coefficients in all scans of a JPEG image; 0 for the others.
    """

    kind: str
    height: int
    width: int
    decoded_bytes: int
    scan_blocks: int = 0
