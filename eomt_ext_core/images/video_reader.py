"""Frames of video files, through OpenCV's FFmpeg."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ImageError
from eomt_ext_core.files import printable
from eomt_ext_core.images.container import inspect_container
from eomt_ext_core.images.limits import DEFAULT_LIMITS, ImageLimits
from eomt_ext_core.images.opening import open_file

_USUAL_RATE_HZ = 25.0


class VideoReader:
    """A context manager that iterates once over the frames of a video file.

    OpenCV gets the open file, not its name, which may be invalid UTF-8 or special to FFmpeg (``%d``, ``a:b``).

    Args:
        path: of an MP4, MOV, AVI, Matroska or WebM file.
        limits: on the size of frames.

    Attributes:
        rate_hz: frames per second; 25 if the file does not declare it.
        declared_frames: number of frames, from a count or a duration in the file; 0 if it has neither.
        num_read: frames read so far.

    Raises:
        ImageError: naming the file, if it cannot be read, is not such a video, or its frames are too large.
    """

    def __init__(self, path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self._name = printable(path)
        self._file = open_file(path)
        self._capture: cv2.VideoCapture | None = None
        try:
            self._open(limits)
        except BaseException:
            self.close()
            raise

    def _open(self, limits: ImageLimits) -> None:
        try:
            self._container = inspect_container(self._file)
        except OSError as error:
            raise ImageError(f"{self._name} cannot be read: {error.strerror or error}", "file") from error
        except ImageError as error:
            raise ImageError(f"{self._name}: {error}", error.reason) from error
        # Linux opens the file again under this name; systems without /proc share its position.
        self._file.seek(0)
        folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
        self._capture = cv2.VideoCapture(f"{folder}/{self._file.fileno()}", cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ImageError(f"{self._name} cannot be decoded as a video", "encoding")
        height, width = (self._number(prop) for prop in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if not 1 <= height * width <= limits.max_video_pixels:
            raise ImageError(
                f"{self._name}: frames must have between 1 and {limits.max_video_pixels} pixels, got height "
                f"{height:.0f} and width {width:.0f}",
                "dimensions",
            )
        rate_hz = self._number(cv2.CAP_PROP_FPS)
        self.rate_hz = rate_hz if 0.01 <= rate_hz <= 1000.0 else _USUAL_RATE_HZ
        self.declared_frames = max(0, int(self._number(cv2.CAP_PROP_FRAME_COUNT)))
        self.num_read = 0

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each frame, (H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: if there is no frame, or OpenCV fails.
        """
        while self._capture is not None:
            try:
                is_open, image_bgr = self._capture.read()
            except cv2.error as error:
                raise ImageError(
                    f"{self._name}: OpenCV cannot decode frame {self.num_read}: {error}", "decode"
                ) from error
            if not is_open:
                break
            self.num_read += 1
            yield np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        if not self.num_read:
            raise ImageError(f"{self._name} has no frame that can be decoded", "encoding")

    def problem(self) -> str | None:
        """Describe the problem of a video that was read to its end: its end or frames are missing; None if it is fine.

        A few frames fewer than declared are normal: cameras drop frames, and streams may begin inside a group.
        """
        num_empty, missing = self._container.num_empty, self._container.missing_bytes
        lost = self.declared_frames - self.num_read - (num_empty or 0)
        estimated = num_empty is None and self._container.kind == "MP4"  # from the fragments in the file
        if missing and (lost > 0 or estimated or not self.declared_frames):
            about = "about " if num_empty is None else ""
            total = f"{about}{self.declared_frames}" if lost > 0 and not estimated else "an unknown number of"
            return (
                f"{self._name} is truncated: only {self.num_read} of {total} frames could be read, at least {missing} "
                "bytes are missing: copy it again"
            )
        if num_empty is not None and lost > min(16, max(2, self.declared_frames // 10)):
            return f"{self._name} is damaged: only {self.num_read} of {self.declared_frames} frames could be read"
        return None

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None
        self._file.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _number(self, prop: int) -> float:
        """Return a property of the video; 0 if it is unknown, huge or not a number."""
        value = 0.0 if self._capture is None else float(self._capture.get(prop))
        return value if math.isfinite(value) and 0 <= value < 1e9 else 0.0
