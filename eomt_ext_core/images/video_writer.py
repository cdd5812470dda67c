"""Writing of videos that play in a browser (H.264), by the ffmpeg of the wheel ``imageio-ffmpeg``."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError, ImageError, OutputError
from eomt_ext_core.files import printable

_QUALITY = 15  # x264's constant rate factor; at 18 and less the loss is considered invisible


class VideoWriter:
    """Write RGB frames, all of the size of the first, to an ``.mp4``. A context manager.

    Args:
        path: of the file.
        rate_hz: frames per second.
    """

    def __init__(self, path: str | Path, rate_hz: float) -> None:
        self._path = Path(path).absolute()  # a relative one may look like a protocol of ffmpeg
        self._rate_hz = rate_hz
        self._size_hw: tuple[int, int] | None = None
        self._encoder: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def write(self, frame_rgb: NDArray[np.uint8]) -> None:
        """Append a frame: (H, W, 3) uint8. An odd last row or column is cut off, as 4:2:0 video needs even sizes.

        Raises:
            ImageError: if its size differs from that of the first frame, or a side has fewer than two pixels.
            OutputError: if the file cannot be written.
            ConfigError: if ffmpeg is missing.
        """
        size_hw = (frame_rgb.shape[0] // 2 * 2, frame_rgb.shape[1] // 2 * 2)
        if self._size_hw is None:
            if min(size_hw) < 2:
                raise ImageError(f"frames of a video must have at least 2 × 2 pixels, got {size_hw}", "dimensions")
            self._size_hw, self._encoder = size_hw, self._start(size_hw)
        if size_hw != self._size_hw:
            raise ImageError(f"all frames of a video must be {self._size_hw}, got {size_hw}", "dimensions")
        if self._encoder is None or self._encoder.stdin is None:
            raise OutputError(f"{printable(self._path)} cannot be written: it is closed")
        try:
            self._encoder.stdin.write(np.ascontiguousarray(frame_rgb[: size_hw[0], : size_hw[1]]).data)
        except BrokenPipeError as error:  # ffmpeg has ended early; its log has the reason
            self.close()
            raise OutputError(f"{printable(self._path)} cannot be written: ffmpeg has ended") from error

    def close(self) -> None:
        """Finish the file, if any frame was written.

        Raises:
            OutputError: if ffmpeg failed to write it.
        """
        encoder, self._encoder = self._encoder, None
        if encoder is None or self._log is None:
            return
        try:
            encoder.communicate()
        except BrokenPipeError:  # it has ended; its exit code is checked below
            encoder.wait()
        with self._log as log:
            log.seek(0)
            reason = log.read(2000).decode("utf-8", "replace").strip()
        if encoder.returncode:
            last = reason.splitlines()[-1] if reason else f"ffmpeg ended with exit code {encoder.returncode}"
            raise OutputError(f"{printable(self._path)} cannot be written: {last}")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError:
            if error is None:  # else report the first error
                raise

    def _start(self, size_hw: tuple[int, int]) -> subprocess.Popen[bytes]:
        try:
            from imageio_ffmpeg import get_ffmpeg_exe

            program = get_ffmpeg_exe()
        except (ImportError, RuntimeError) as error:
            raise ConfigError(f"videos need ffmpeg: install the extra 'bags' ({error})") from error
        height, width = size_hw
        command = [
            program, "-nostdin", "-v", "error", "-y",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._rate_hz:.4f}", "-i", "-",
            "-an", "-c:v", "libx264", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p", "-movflags", "+faststart",
            f"file:{self._path}",
        ]  # fmt: skip
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # close() closes it
        # In its own session, so that Ctrl-C in the terminal does not end ffmpeg before the program closes the video.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log, start_new_session=True
        )
