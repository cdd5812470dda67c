"""Limits on the work that an image or video file can demand from a decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLimits:
    """Limits that are checked on the header of a file before it is decoded.

    With the defaults any image takes less than 1 GiB and about a second on one core of 2024. Images of 8192 x 8192
    pixels pass: 8 bit colour in every format, with alpha, and progressive JPEG with 14 passes over a component
    (libjpeg's own script for colour without subsampling).

    Args:
        max_pixels: most pixels of an image.
        max_decoded_bytes: most bytes of a decoded image with the channels and depth of the file.
        max_file_bytes: most bytes of an image file; an uncompressed BMP of 8192 x 8192 has 201 million.
        max_scan_blocks: most blocks of 8 x 8 coefficients in all scans of a JPEG image together. A file of a megabyte
            can contain thousands of empty scans, which take 20 to 40 ns for each block.
        max_video_pixels: most pixels in a frame of a video; its decoder keeps up to 16 frames.
    """

    max_pixels: int = 1 << 26
    max_decoded_bytes: int = 1 << 28
    max_file_bytes: int = 1 << 28
    max_scan_blocks: int = 1 << 24
    max_video_pixels: int = 1 << 25


DEFAULT_LIMITS = ImageLimits()
