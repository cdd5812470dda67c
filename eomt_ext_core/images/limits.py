"""What the file of an image or a video may ask of a decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLimits:
    """Bounds that are checked on the header of a file, before memory or time goes into decoding it.

    With these defaults an image takes less than 1 GiB and about a second on one core of 2024, whatever its file holds.
    Images of 8192 x 8192 pixels pass: 8 bit colour in every format, with alpha, and progressive JPEG with 14 passes
    over a component (libjpeg's own script for colour without subsampling).

    Args:
        max_pixels: most pixels of an image.
        max_decoded_bytes: most bytes of an image as its format stores pixels once it is unpacked: 16 bit channels
            count twice.
        max_file_bytes: most bytes of the file of an image; an uncompressed BMP of 8192 x 8192 has 201 million.
        max_scan_blocks: most blocks of 8 x 8 coefficients that a JPEG image visits, all of its scans together. A file
            of a megabyte can hold thousands of scans of no content, and each costs 20 to 40 ns a block.
        max_video_pixels: most pixels of a frame of a video; its decoder keeps up to 16 of them.
    """

    max_pixels: int = 1 << 26
    max_decoded_bytes: int = 1 << 28
    max_file_bytes: int = 1 << 28
    max_scan_blocks: int = 1 << 24
    max_video_pixels: int = 1 << 25


DEFAULT_LIMITS = ImageLimits()
