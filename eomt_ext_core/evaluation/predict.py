"""Running an engine over image and video files, and writing what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.engine import AnomalyFrame
from eomt_ext_core.errors import ConfigError, ImageError
from eomt_ext_core.evaluation.datasets.samples import IMAGE_SUFFIXES, read_rgb
from eomt_ext_core.files import whole_file
from eomt_ext_core.video import VideoWriter
from eomt_ext_core.visualization import overlay

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
PROBABILITY_FORMATS = ("png", "npy", "none")


class Engine(Protocol):
    """What finds anomalies in an image: an ``AnomalyEngine``."""

    def infer(self, image_rgb: NDArray[np.uint8]) -> AnomalyFrame:
        """(H, W, 3) uint8 to a frame."""
        ...


@dataclass(frozen=True)
class Source:
    """An image or a video; ``num_frames`` is what the file says of itself."""

    path: Path
    is_video: bool
    num_frames: int


def list_inputs(paths: Sequence[Path]) -> list[Source]:
    """Images and videos among paths, and inside of those that are folders.

    Raises:
        ImageError: where a path is missing or of no known kind, a video cannot be opened, or a folder holds neither.
        ConfigError: where two would be written to one name.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES)
            if not inside:
                raise ImageError(f"{path} holds no image and no video", reason="encoding")
            files += inside
        else:
            files.append(path)
    by_stem: dict[str, Path] = {}
    for file in files:
        if file.stem in by_stem:
            raise ConfigError(f"results are named after their input, {by_stem[file.stem]} and {file} have one name")
        by_stem[file.stem] = file
    return [_source(file) for file in files]


def _source(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        raise ImageError(f"{path} must be an image or a video ({' '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)})")
    if not path.is_file():
        raise ImageError(f"{path} is not there")
    if suffix in IMAGE_SUFFIXES:
        return Source(path, False, 1)
    capture = _open(path)
    num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return Source(path, True, max(0, num_frames))


@dataclass(frozen=True)
class PredictionWriter:
    """Writes into ``folder``: ``probability/``, ``mask/`` (0 or 255) and ``overlay/``, named after the input.

    An image gives an image in each; a video gives an H.264 video in ``mask/`` and ``overlay/`` and a folder of frames,
    numbered from 000000, in ``probability/``. ``probability``: ``png`` (16 bit, 65535 meaning 1), ``npy`` (float32), or
    ``none``. Raises ``ConfigError`` for another.
    """

    folder: Path
    probability: str = "png"

    def __post_init__(self) -> None:
        if self.probability not in PROBABILITY_FORMATS:
            raise ConfigError(f"probability must be one of {', '.join(PROBABILITY_FORMATS)}, got {self.probability!r}")

    def process(self, source: Source, engine: Engine) -> Iterator[AnomalyFrame]:
        """Run the engine over a source and write its results, frame by frame as they are asked for."""
        if not source.is_video:
            image_rgb = read_rgb(source.path, turn=True)
            frame = engine.infer(image_rgb)
            self._write_probability(Path(f"{source.path.stem}"), frame.probability)
            _write_image(self.folder / "mask" / f"{source.path.stem}.png", frame.mask.astype(np.uint8) * 255)
            picture = overlay(image_rgb, frame.probability, frame.mask)
            _write_image(self.folder / "overlay" / f"{source.path.stem}.png", picture[..., ::-1])
            yield frame
            return
        capture = _open(source.path)
        rate_hz = capture.get(cv2.CAP_PROP_FPS) or 25.0
        with ExitStack() as stack:
            stack.callback(capture.release)
            overlays, masks = (
                stack.enter_context(
                    VideoWriter(
                        stack.enter_context(whole_file(self.folder / kind / f"{source.path.stem}.mp4")), rate_hz
                    )
                )
                for kind in ("overlay", "mask")
            )
            index = 0
            while (decoded := capture.read())[0]:
                image_rgb = np.ascontiguousarray(decoded[1][..., ::-1], dtype=np.uint8)
                frame = engine.infer(image_rgb)
                self._write_probability(Path(source.path.stem) / f"{index:06d}", frame.probability)
                masks.write(np.repeat(frame.mask[..., None].astype(np.uint8) * 255, 3, axis=2))
                overlays.write(overlay(image_rgb, frame.probability, frame.mask))
                yield frame
                index += 1
            if not index:
                raise ImageError(f"{source.path} holds no frame that can be decoded", reason="encoding")

    def _write_probability(self, name: Path, probability: NDArray[np.float32]) -> None:
        if self.probability == "none":
            return
        path = self.folder / "probability" / name.with_name(f"{name.name}.{self.probability}")
        if self.probability == "png":
            _write_image(path, np.rint(probability * np.float32(65535)).astype(np.uint16))
            return
        with whole_file(path) as temporary:
            np.save(temporary, probability)


def _open(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ImageError(f"{path} cannot be decoded as a video", reason="encoding")
    return capture


def _write_image(path: Path, image: NDArray[np.generic]) -> None:
    with whole_file(path) as temporary:
        if not cv2.imwrite(str(temporary), np.ascontiguousarray(image)):
            raise ImageError(f"{path} cannot be written", reason="encoding")
