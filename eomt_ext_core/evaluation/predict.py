"""Inference on image and video files, with probability, mask and overlay as result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import EngineConfig, ObstacleConfig
from eomt_ext_core.engine import AnomalyEngine, AnomalyFrame, Explanation
from eomt_ext_core.errors import ConfigError, ImageError, InferenceError
from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.result import EvaluationResult
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.evaluation.workers import cpu_threads, engine_of_worker
from eomt_ext_core.files import atomic_write, message_with_path, printable
from eomt_ext_core.health import CameraJudge, HealthConfig
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
from eomt_ext_core.obstacles import ObstacleFrame, Reason, find_obstacles, reasons
from eomt_ext_core.tracking import ObstacleRecord, Tracker, TrackingConfig, check_confirmed_only, obstacle_record
from eomt_ext_core.visualization import overlay

PROBABILITY_FORMATS = ("png", "npy", "none")
_INTERRUPTED = "interrupted"


class Engine(Protocol):
    """The part of ``AnomalyEngine`` that is used here."""

    class_names: tuple[str, ...]

    @property
    def has_semantic(self) -> bool:
        """Whether the model gives the semantic class of each pixel."""

    @property
    def threshold(self) -> float:
        """Probability above which a pixel belongs to the mask."""

    def infer(self, image_rgb: NDArray[np.uint8]) -> AnomalyFrame:
        """Return the frame of an image (H, W, 3) uint8."""
        ...

    def explain(self, image_rgb: NDArray[np.uint8]) -> Explanation:
        """Return what the network takes it for."""
        ...


@dataclass(frozen=True)
class Source:
    """An image or a video, as its suffix says; its results are named after it."""

    path: Path
    is_video: bool

    def num_frames(self) -> int:
        """Return the number of frames that the file declares; 0 for a video that cannot be opened."""
        if not self.is_video:
            return 1
        try:
            with VideoReader(self.path) as video:
                return video.declared_frames
        except ImageError:
            return 0


class Inputs(NamedTuple):
    """The inputs, and a message for each path that is not one."""

    sources: tuple[Source, ...]
    problems: tuple[str, ...]


def list_inputs(paths: Sequence[Path]) -> Inputs:
    """List images and videos among paths and directly inside folders, without opening any file.

    Hidden files and files with other suffixes inside a folder are ignored; a path given itself must be an input.

    Raises:
        ConfigError: if the results of two images, or of two videos, would have the same name.
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
            problems.append(f"{printable(path)} cannot be read: {error.strerror or error}")
            continue
        folders = [file for file in inside if kind_of(file) and os.path.isdir(file)]
        problems += [f"{printable(folder)} is a folder: pass it as an input to read its files" for folder in folders]
        found = [file for file in inside if is_input(file)]
        if not found and not folders:
            problems.append(f"{printable(path)} contains no image and no video")
        files += found
    by_name: dict[tuple[str, str], Path] = {}  # an image and a video may share a stem: their results differ in suffix
    sources = []
    for file in files:
        kind = kind_of(file)
        if kind is None:
            problems.append(
                f"{printable(file)} must be an image or a video ({' '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)})"
            )
            continue
        other = by_name.setdefault((kind, file.stem), file)
        if other is not file:
            raise ConfigError(
                f"inputs must have different names, as results are named after them, got {printable(other)} and "
                f"{printable(file)}"
            )
        sources.append(Source(file, kind == "video"))
    return Inputs(tuple(sources), tuple(problems))


@dataclass(frozen=True)
class PredictionWriter:
    """Write results into ``probability/``, ``mask/`` (0 or 255), ``overlay/`` and ``obstacles/`` of a folder.

    All are named after the input. The overlay frames the obstacles that ``obstacles`` asks for, and an
    :class:`~eomt_ext_core.tracking.ObstacleRecord` lists them. ``tracking`` says how they are followed through a video.
    ``evaluator`` takes every frame for the report, if there is one. ``explain``: list why each is an obstacle, if the
    model gives semantic classes.

    An image has an image in each. A video has an H.264 video in ``mask/`` and ``overlay/``, and a folder of frames,
    numbered from 000000, in ``probability/``. ``probability``: ``png`` (16 bit, 65535 is 1), ``npy`` (float32) or
    ``none``. Raises ``ConfigError`` for any other format.
    """

    folder: Path
    probability: str = "png"
    obstacles: ObstacleConfig = field(default_factory=ObstacleConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    evaluator: Evaluator | None = None
    explain: bool = False

    def __post_init__(self) -> None:
        _check_format(self.probability)

    def process(
        self, source: Source, engine: Engine, should_continue: Callable[[], bool] = lambda: True
    ) -> Iterator[AnomalyFrame]:
        """Run the engine on a source, write the results of each frame, and yield it.

        Args:
            source: an image or a video.
            engine: to run.
            should_continue: called after each frame; if it is false a video ends early, with all results so far.

        Raises:
            ImageError: naming the file, if it cannot be read; for a truncated video after the results of all its
                frames.
            OutputError: if a result cannot be written.
        """
        if source.is_video:
            return self._process_video(source.path, engine, should_continue)
        return self._process_image(source.path, engine, should_continue)

    def _process_image(self, path: Path, engine: Engine, should_continue: Callable[[], bool]) -> Iterator[AnomalyFrame]:
        image_rgb = read_rgb(path, turn=True)
        frame, latency_ms = _timed(engine, image_rgb)
        self._write_probability(Path(path.stem), frame.probability)
        write_image(self.folder / "mask" / f"{path.stem}.png", frame.mask.astype(np.uint8) * 255)
        found = find_obstacles(frame.probability, self.obstacles, threshold=engine.threshold)
        drawn = _drawn(image_rgb, frame, found)
        write_image(self.folder / "overlay" / f"{path.stem}.png", drawn[..., ::-1])
        with self._record(path) as record:
            rows = record.add(found, 0, "", why=self._why(found, image_rgb, engine))
        self._report(path.name, image_rgb, frame, latency_ms, FrameDetail(obstacles=tuple(rows)))
        yield frame
        should_continue()

    def _process_video(self, path: Path, engine: Engine, should_continue: Callable[[], bool]) -> Iterator[AnomalyFrame]:
        with VideoReader(path) as video, ExitStack() as stack:
            overlays, masks = (
                stack.enter_context(
                    VideoWriter(
                        stack.enter_context(atomic_write(self.folder / kind / f"{path.stem}.mp4")), video.rate_hz
                    )
                )
                for kind in ("overlay", "mask")
            )
            record, tracker, judge = stack.enter_context(self._record(path)), Tracker(), CameraJudge()
            for index, image_rgb in enumerate(video):
                frame, latency_ms = _timed(engine, image_rgb)
                time_s = index / video.rate_hz
                found = find_obstacles(frame.probability, self.obstacles, threshold=engine.threshold)
                if self.tracking.enabled:
                    found = tracker.follow(found, time_s, self.tracking, threshold=engine.threshold)
                found = found.confirmed() if self.obstacles.confirmed_only else found
                rows = record.add(found, index, f"{time_s:.3f}", why=self._why(found, image_rgb, engine))
                health = judge.look(image_rgb, time_s, HealthConfig()).summary
                overlay_path = f"overlay/{path.stem}.mp4"
                detail = FrameDetail(path.name, index, time_s, overlay_path, time_s, tuple(rows), health)
                self._report(f"{path.name}/{index:06d}", image_rgb, frame, latency_ms, detail)
                self._write_probability(Path(path.stem) / f"{index:06d}", frame.probability)
                masks.write(np.repeat(frame.mask[..., None].astype(np.uint8) * 255, 3, axis=2))
                overlays.write(_drawn(image_rgb, frame, found))
                yield frame
                if not should_continue():
                    return
        problem = video.problem()
        if problem is not None:
            raise ImageError(problem, "truncated")

    def _why(self, found: ObstacleFrame, image_rgb: NDArray[np.uint8], engine: Engine) -> list[Reason | None]:
        if not (self.explain and engine.has_semantic and found.obstacles):
            return []
        return reasons(found, *engine.explain(image_rgb), engine.class_names)

    def _report(
        self,
        name: str,
        image_rgb: NDArray[np.uint8],
        frame: AnomalyFrame,
        latency_ms: float,
        detail: FrameDetail,
    ) -> None:
        if self.evaluator is not None:
            scores = {self.evaluator.setup.scores[0]: frame.probability}
            self.evaluator.update(name, image_rgb, scores, latency_ms=latency_ms, detail=detail)

    def _record(self, path: Path) -> AbstractContextManager[ObstacleRecord]:
        return obstacle_record(self.folder / "obstacles" / f"{path.name}.csv", "frame", "time_s")

    def _write_probability(self, name: Path, probability: NDArray[np.float32]) -> None:
        if self.probability == "none":
            return
        path = self.folder / "probability" / name.with_name(f"{name.name}.{self.probability}")
        if self.probability == "png":
            write_image(path, np.rint(probability * np.float32(65535)).astype(np.uint16))
            return
        with atomic_write(path) as temporary:
            np.save(temporary, probability)


@dataclass(frozen=True)
class PredictRun:
    """Settings of a prediction: the first four give the engine, the others are those of :class:`PredictionWriter`.

    Raises:
        ConfigError: for an unknown format, and if only confirmed obstacles are wanted and nothing confirms them.
    """

    checkpoint: str
    engine: EngineConfig
    head: str | None
    normality: str | None
    probability: str
    obstacles: ObstacleConfig
    tracking: TrackingConfig
    explain: bool

    def __post_init__(self) -> None:
        _check_format(self.probability)
        check_confirmed_only(self.obstacles, self.tracking)


@dataclass(frozen=True)
class PredictShard:
    """The sources that one worker runs, every ``num_workers``-th: whole images and whole videos.

    A single worker takes as many CPU threads as torch likes, several share the cores.
    """

    run: PredictRun
    sources: tuple[Source, ...]
    folder: Path
    spool_folder: Path | None
    worker: int
    num_workers: int

    def evaluate(self, should_continue: Callable[[], bool]) -> Evaluator:
        """Write the results of the sources, and give what the report needs; a source that cannot be read is skipped."""
        with ExitStack() as stack:
            if self.num_workers > 1:
                stack.enter_context(cpu_threads(max(1, len(os.sched_getaffinity(0)) // self.num_workers)))
            run, config = self.run, engine_of_worker(self.run.engine, self.worker)
            engine = AnomalyEngine.load(run.checkpoint, config, run.head, normality=run.normality)
            evaluator = Evaluator(
                [config.score], name="inputs", mask_threshold=engine.threshold, spool_folder=self.spool_folder
            )
            evaluator.ran_on(engine.describe())
            try:
                self._run_sources(evaluator, engine, should_continue)
            except BaseException:
                evaluator.close()
                raise
            return evaluator

    def _run_sources(self, evaluator: Evaluator, engine: AnomalyEngine, should_continue: Callable[[], bool]) -> None:
        run, goes_on = self.run, True

        def frame_done() -> bool:
            nonlocal goes_on
            goes_on = should_continue()
            return goes_on

        writer = PredictionWriter(self.folder, run.probability, run.obstacles, run.tracking, evaluator, run.explain)
        for source in self.sources[self.worker :: self.num_workers]:
            if not goes_on:
                evaluator.skip(source.path.name, f"{printable(source.path)}: {_INTERRUPTED}")
                continue
            try:
                for _ in writer.process(source, engine, frame_done):
                    pass
                if source.is_video and not goes_on:
                    raise ImageError(_INTERRUPTED)
            except (ImageError, InferenceError) as error:
                evaluator.skip(source.path.name, message_with_path(source.path, error))


def deal_out(
    run: PredictRun, sources: Sequence[Source], folder: Path, spool_folder: Path | None, workers: int | None
) -> list[list[PredictShard]]:
    """Give each worker its part.

    Args:
        run: the settings.
        sources: all of them.
        folder: for the results.
        spool_folder: for what the report needs until the end; None: the system's folder for temporary files.
        workers: how many, but no more than there are sources; None: one for each GPU, and one without.
    """
    import torch

    number = workers or (torch.cuda.device_count() if run.engine.device == "auto" else 1)
    number = max(1, min(number, len(sources)))
    return [[PredictShard(run, tuple(sources), folder, spool_folder, worker, number)] for worker in range(number)]


def is_interrupted(result: EvaluationResult) -> bool:
    """Whether a user ended the run before its last source."""
    return any(problem.endswith(f": {_INTERRUPTED}") for problem in result.skipped.values())


def _check_format(probability: str) -> None:
    if probability not in PROBABILITY_FORMATS:
        raise ConfigError(f"probability must be one of {', '.join(PROBABILITY_FORMATS)}, got {probability!r}")


def _timed(engine: Engine, image_rgb: NDArray[np.uint8]) -> tuple[AnomalyFrame, float]:
    """Return the frame of an image and how long it took, in ms."""
    started_s = time.perf_counter()
    frame = engine.infer(image_rgb)
    return frame, 1e3 * (time.perf_counter() - started_s)


def _drawn(image_rgb: NDArray[np.uint8], frame: AnomalyFrame, found: ObstacleFrame) -> NDArray[np.uint8]:
    boxes, labels = [each.box_xywh for each in found.listed], [each.label for each in found.listed]
    return overlay(image_rgb, frame.probability, frame.mask, boxes_xywh=boxes, labels=labels)
