"""Running an engine over image and video files, and writing what it finds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.engine import AnomalyFrame
from eomt_ext_core.errors import ConfigError, ImageError
from eomt_ext_core.files import shown, whole_file
from eomt_ext_core.images import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    VideoReader,
    VideoWriter,
    is_input,
    kind_of,
    read_rgb,
    write_image,
)
from eomt_ext_core.obstacles import ObstacleFrame, find_obstacles
from eomt_ext_core.tracking import ObstacleRecord, Tracker, TrackingConfig, obstacle_record
from eomt_ext_core.visualization import overlay

PROBABILITY_FORMATS = ("png", "npy", "none")


class Engine(Protocol):
    """What finds anomalies in an image: an ``AnomalyEngine``."""

    @property
    def threshold(self) -> float:
        """Probability above which a pixel belongs to the mask."""

    def infer(self, image_rgb: NDArray[np.uint8]) -> AnomalyFrame:
        """(H, W, 3) uint8 to a frame."""
        ...


@dataclass(frozen=True)
class Source:
    """An image or a video, by its suffix; its results are named after it."""

    path: Path
    is_video: bool

    def num_frames(self) -> int:
        """What the file declares, for a progress bar; 0 for a video that cannot be opened."""
        if not self.is_video:
            return 1
        try:
            with VideoReader(self.path) as video:
                return video.declared_frames
        except ImageError:
            return 0


class Inputs(NamedTuple):
    """What there is to do, and a sentence for everything that was named and is no input."""

    sources: tuple[Source, ...]
    problems: tuple[str, ...]


def list_inputs(paths: Sequence[Path]) -> Inputs:
    """Images and videos among paths, and inside of those that are folders; no file is opened.

    Inside a folder, files that are hidden or have another suffix are no inputs. What is named itself must be one.

    Raises:
        ConfigError: if two images, or two videos, would be written to one name.
    """
    files: list[Path] = []
    problems: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            inside = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        except OSError as error:
            problems.append(f"{shown(path)} cannot be read: {error.strerror or error}")
            continue
        folders = [file for file in inside if kind_of(file) and os.path.isdir(file)]
        problems += [f"{shown(folder)} is a folder: name it to have what is in it read" for folder in folders]
        found = [file for file in inside if is_input(file)]
        if not found and not folders:
            problems.append(f"{shown(path)} holds no image and no video")
        files += found
    by_name: dict[tuple[str, str], Path] = {}  # a photograph and a video may share a stem: results do not meet
    sources = []
    for file in files:
        kind = kind_of(file)
        if kind is None:
            problems.append(f"{shown(file)} must be an image or a video ({' '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)})")
            continue
        other = by_name.setdefault((kind, file.stem), file)
        if other is not file:
            raise ConfigError(f"results are named after their input, {shown(other)} and {shown(file)} have one name")
        sources.append(Source(file, kind == "video"))
    return Inputs(tuple(sources), tuple(problems))


@dataclass(frozen=True)
class PredictionWriter:
    """Writes into ``folder``: ``probability/``, ``mask/`` (0 or 255), ``overlay/``, ``obstacles/``, named by the input.

    What ``obstacles`` counts as such is framed in the overlay, and listed in a table that an
    :class:`~eomt_ext_core.tracking.ObstacleRecord` writes. It is followed through a video as ``tracking`` says.

    An image gives an image in each; a video gives an H.264 video in ``mask/`` and ``overlay/`` and a folder of frames,
    numbered from 000000, in ``probability/``. ``probability``: ``png`` (16 bit, 65535 meaning 1), ``npy`` (float32), or
    ``none``. Raises ``ConfigError`` for another.
    """

    folder: Path
    probability: str = "png"
    obstacles: ObstacleConfig = field(default_factory=ObstacleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if self.probability not in PROBABILITY_FORMATS:
            raise ConfigError(f"probability must be one of {', '.join(PROBABILITY_FORMATS)}, got {self.probability!r}")

    def process(self, source: Source, engine: Engine) -> Iterator[AnomalyFrame]:
        """Run the engine over a source and write its results, frame by frame as they are asked for.

        Raises:
            ImageError: naming the file, if it cannot be read; for a video that is cut short, after all results of
                the frames that are there.
            OutputError: if a result cannot be written.
        """
        return self._process_video(source.path, engine) if source.is_video else self._process_image(source.path, engine)

    def _process_image(self, path: Path, engine: Engine) -> Iterator[AnomalyFrame]:
        image_rgb = read_rgb(path, turn=True)
        frame = engine.infer(image_rgb)
        self._write_probability(Path(path.stem), frame.probability)
        write_image(self.folder / "mask" / f"{path.stem}.png", frame.mask.astype(np.uint8) * 255)
        found = find_obstacles(frame.probability, self.obstacles, threshold=engine.threshold)
        drawn = _drawn(image_rgb, frame, found)
        write_image(self.folder / "overlay" / f"{path.stem}.png", drawn[..., ::-1])
        with self._record(path) as record:
            record.add(found, 0, "")
        yield frame

    def _process_video(self, path: Path, engine: Engine) -> Iterator[AnomalyFrame]:
        with VideoReader(path) as video, ExitStack() as stack:
            overlays, masks = (
                stack.enter_context(
                    VideoWriter(stack.enter_context(whole_file(self.folder / kind / f"{path.stem}.mp4")), video.rate_hz)
                )
                for kind in ("overlay", "mask")
            )
            record, tracker = stack.enter_context(self._record(path)), Tracker()
            for index, image_rgb in enumerate(video):
                frame = engine.infer(image_rgb)
                found = find_obstacles(frame.probability, self.obstacles, threshold=engine.threshold)
                if self.tracking.enabled:
                    time_s = index / video.rate_hz
                    found = tracker.follow(found, time_s, self.tracking, threshold=engine.threshold)
                found = found.confirmed() if self.obstacles.confirmed_only else found
                record.add(found, index, f"{index / video.rate_hz:.3f}")
                self._write_probability(Path(path.stem) / f"{index:06d}", frame.probability)
                masks.write(np.repeat(frame.mask[..., None].astype(np.uint8) * 255, 3, axis=2))
                overlays.write(_drawn(image_rgb, frame, found))
                yield frame
        problem = video.problem()
        if problem is not None:
            raise ImageError(problem, "truncated")

    def _record(self, path: Path) -> AbstractContextManager[ObstacleRecord]:
        return obstacle_record(self.folder / "obstacles" / f"{path.name}.csv", "frame", "time_s")

    def _write_probability(self, name: Path, probability: NDArray[np.float32]) -> None:
        if self.probability == "none":
            return
        path = self.folder / "probability" / name.with_name(f"{name.name}.{self.probability}")
        if self.probability == "png":
            write_image(path, np.rint(probability * np.float32(65535)).astype(np.uint16))
            return
        with whole_file(path) as temporary:
            np.save(temporary, probability)


def _drawn(image_rgb: NDArray[np.uint8], frame: AnomalyFrame, found: ObstacleFrame) -> NDArray[np.uint8]:
    boxes, labels = [each.box_xywh for each in found.listed], [each.label for each in found.listed]
    return overlay(image_rgb, frame.probability, frame.mask, boxes_xywh=boxes, labels=labels)
