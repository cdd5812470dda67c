"""What a report tells of a frame besides its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FrameDetail:
    """Where a frame belongs in a recording, what was found in it, and how its camera was.

    ``sequence``: name of the recording, and of its camera if there are several; empty for a single image. ``index``:
    of the frame in it. ``time_s``: since the recording began. ``video``: overlays of the sequence as a path from the
    report's folder, or empty; ``video_s``: of this frame in it. ``obstacles``: rows by the columns of
    ``obstacles.csv``. ``health``: faults of the camera, ``well``, or empty if it was not judged.
    """

    sequence: str = ""
    index: int = 0
    time_s: float = 0.0
    video: str = ""
    video_s: float = 0.0
    obstacles: tuple[dict[str, Any], ...] = ()
    health: str = ""
