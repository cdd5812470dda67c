"""Videos that play in a browser (H.264), through the ffmpeg that the wheel ``imageio-ffmpeg`` brings."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class VideoWriter:
    """Write RGB frames, all of the size of the first, to an ``.mp4``. A context manager.

    Args:
        path: of the file.
        rate_hz: frames a second.
    """

    def __init__(self, path: str | Path, rate_hz: float) -> None:
        self._path = path
        self._rate_hz = rate_hz
        self._size_hw: tuple[int, int] | None = None
        self._encoder: Generator[Any, Any, None] | None = None

    def write(self, frame_rgb: NDArray[np.uint8]) -> None:
        """Append a frame: (H, W, 3) uint8. An odd last row or column is cut off, since 4:2:0 video has none.

        Raises:
            ValueError: where its size is not that of the first frame.
        """
        size_hw = (frame_rgb.shape[0] // 2 * 2, frame_rgb.shape[1] // 2 * 2)
        if self._encoder is None:
            self._size_hw, self._encoder = size_hw, self._start(size_hw)
        if size_hw != self._size_hw:
            raise ValueError(f"a video's frames must all be {self._size_hw}, got {size_hw}")
        self._encoder.send(np.ascontiguousarray(frame_rgb[: size_hw[0], : size_hw[1]]))

    def close(self) -> None:
        """Finish the file."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, size_hw: tuple[int, int]) -> Generator[Any, Any, None]:
        from imageio_ffmpeg import write_frames

        encoder: Generator[Any, Any, None] = write_frames(
            str(self._path),
            size_hw[::-1],
            fps=self._rate_hz,
            codec="libx264",
            quality=7,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-movflags", "+faststart"],
        )
        encoder.send(None)
        return encoder
