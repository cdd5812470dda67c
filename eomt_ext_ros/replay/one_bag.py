"""Replay of one bag: every frame through the engine, into an annotated bag, videos and an evaluation."""

from __future__ import annotations

import functools
import os
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import check_frame
from eomt_ext_core.engine import AnomalyEngine, AnomalyFrame
from eomt_ext_core.errors import DatasetError, EomtExtError, GroundError, ImageError
from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.files import atomic_write, printable
from eomt_ext_core.health import CameraJudge
from eomt_ext_core.images import VideoWriter
from eomt_ext_core.normality.drift import DriftWatch
from eomt_ext_core.obstacles import ObstacleFrame, find_obstacles, reasons
from eomt_ext_core.tracking import Tracker, obstacle_record
from eomt_ext_core.tracking.record import Range
from eomt_ext_ros.bags import Bag, BagMessage, BagWriter
from eomt_ext_ros.bags.messages import IMAGE_TYPES, deserialize, image_rgb, serialize_image, stamp_ns
from eomt_ext_ros.messages.images import lost_colours
from eomt_ext_ros.outputs.rendering import Rendering
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.replay.job import BagJob, BagReport
from eomt_ext_ros.replay.labels import LabelFolder, Labels, LabelTopic, NoLabels
from eomt_ext_ros.replay.ranges import Ranges
from eomt_ext_ros.replay.topics import OUTPUTS, camera_names, frame_name, listed, output_topic

_MAX_NS = (1 << 63) - 1  # a time of ROS is an int64
_VIDEO_SIDE_PX = 2, 16384  # least and most that the H.264 encoder takes

Progress = Callable[[int, int], None]
"""Called with the number of frames done and the number of all frames."""


def replay_bag(job: BagJob, progress: Progress = lambda done, total: None) -> BagReport:
    """Run every frame of a bag through the engine; write ``annotated`` (a bag) and the videos into the job's folder.

    Never raises: problems of the bag, a full disk and a lost GPU are in the report, with all results so far. The replay
    ends after the current frame when the stop file appears.
    """
    report = BagReport(job.name)
    try:
        with ExitStack() as stack:
            _Replay(job, report, progress, stack).run()
    except Exception as error:
        report.error = report.error or _describe(error)  # the first failure is the cause of the later ones
    return report


def _describe(error: Exception) -> str:
    """Return the message of an expected error, else the traceback."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {printable(error.filename)}" if error.filename else "")
    return str(error) if isinstance(error, EomtExtError) else traceback.format_exc()


class _Replay:
    def __init__(self, job: BagJob, report: BagReport, progress: Progress, stack: ExitStack) -> None:
        import torch

        self.job, self.config, self.report, self.progress = job, job.config, report, progress
        torch.set_num_threads(self.config.threads)
        self.engine = _engine(self.config.node, self.config.scores[0])
        self.cameras = camera_names(self.config.image_topics)
        self.bag = stack.enter_context(Bag(job.bag))
        report.evaluator = Evaluator(
            self.config.scores,
            name="replay",
            track=self.config.track,
            mask_threshold=self.engine.threshold,
            spool_folder=job.spool_folder,
        )
        self.evaluator = report.evaluator
        self.evaluator.ran_on(self.engine.describe())
        self.trackers = {topic: Tracker() for topic in self.cameras}
        self.judges = {topic: CameraJudge() for topic in self.cameras}
        self.num_shown: Counter[str] = Counter()  # frames in the video of a topic
        self.record = stack.enter_context(obstacle_record(job.folder / "obstacles.csv", "camera", "stamp"))
        self.annotated = stack.enter_context(BagWriter(job.folder / "annotated"))
        self.videos = stack.enter_context(ExitStack())
        self.video_of: dict[str, tuple[VideoWriter, tuple[int, int]]] = {}
        self.watches: dict[str, DriftWatch] = {}
        self.labels: dict[str, Labels] = {}
        self.ranges: Ranges | None = None
        self.frame_names: Counter[str] = Counter()

    def run(self) -> None:
        """Replay the bag. A problem of a frame skips that frame; any other ends the replay, with all files complete."""
        try:
            frames = self._frames()
            self.report.num_frames = len(frames)
            self._open_labels()
            if self.config.info_topic:
                self.ranges = Ranges(self.bag, self.config.info_topic, self.config.node.ground, self.report.problems)
            self.rate_hz = _rate_hz(frames)
            self.began_ns = min((frame.time_ns for frame in frames), default=0)
            for number, frame in enumerate(frames):
                if self.job.stop_file.exists():
                    self.report.interrupted = True
                    break
                try:
                    self._replay(frame)
                    self.report.num_processed += 1
                except (EomtExtError, MemoryError) as error:
                    problem = "out of memory" if isinstance(error, MemoryError) else error
                    self.report.problems.append(f"{frame.topic}, frame received at {frame.time_ns} ns: {problem}")
                self.progress(number + 1, len(frames))
            self._check_labels()
        except Exception as error:  # caught here, so that the bag and the videos so far are closed properly
            self.report.error = _describe(error)
        self.report.problems[:0] = self.bag.problems

    def _frames(self) -> list[BagMessage]:
        """Return the frames to process, in the order in which they were received."""
        messages = self.bag.messages(self.config.image_topics, self.config.start_s, self.config.duration_s)
        topics = self.bag.topics  # complete only now: a damaged file may declare a topic just before its messages
        images = sorted(name for name, topic in topics.items() if topic.msgtype in IMAGE_TYPES)
        num_messages = Counter((message.topic, message.msgtype) for message in messages)
        for topic in self.config.image_topics:
            if topic in images:
                for output in self.config.outputs:
                    self.annotated.add_topic(output_topic(self.cameras[topic], output))
            if topic not in topics:
                self.report.problems.append(f"{topic} is not in the bag; its image topics are {listed(images)}")
            elif not any(name == topic for name, _ in num_messages):
                self.report.problems.append(f"{topic} has no messages in the range")
        for (topic, msgtype), count in num_messages.items():
            if msgtype not in IMAGE_TYPES:
                self.report.problems.append(f"{topic} has {count} messages of type {msgtype or 'unknown'}, not images")
        counts: Counter[str] = Counter()
        frames = []
        for message in messages:
            if message.msgtype in IMAGE_TYPES:
                if counts[message.topic] % self.config.every == 0:
                    frames.append(message)
                counts[message.topic] += 1
        return frames

    def _open_labels(self) -> None:
        for number, (topic, camera) in enumerate(self.cameras.items()):
            if self.config.label_topics:
                self.labels[topic] = LabelTopic(self.bag, self.config.label_topics[number], self.report.problems)
            elif self.config.labels is not None:
                self.labels[topic] = LabelFolder(self.config.labels, self.bag.name, camera)
            else:
                self.labels[topic] = NoLabels()

    def _check_labels(self) -> None:
        """Report recorded labels that match no frame, if all frames were replayed."""
        if self.config.every > 1 or self.config.start_s or self.config.duration_s is not None:
            return
        for topic, labels in self.labels.items():
            if isinstance(labels, LabelTopic) and labels.num_unused and not self.report.interrupted:
                self.report.problems.append(f"{topic}: {labels.num_unused} labels match no frame by their stamp")

    def _replay(self, frame: BagMessage) -> None:
        started = time.perf_counter()
        data = self.bag.read(frame)
        msg = deserialize(data, frame.msgtype)
        pixels = image_rgb(msg, frame.msgtype)
        if (why := lost_colours(msg)) and (note := f"{frame.topic} has no colours: {why}") not in self.report.notes:
            self.report.notes.append(note)
        scores = self.engine.score_maps(pixels, self.config.scores)
        latency_ms = 1e3 * (time.perf_counter() - started)

        camera, stamp = self.cameras[frame.topic], stamp_ns(data)
        self._watch(frame.topic, stamp / 1e9, pixels)
        probability = scores[self.config.scores[0]]
        found = self._obstacles(frame, stamp, probability)
        explains = self.config.explain and self.engine.has_semantic and found.obstacles
        known = reasons(found, *self.engine.explain(pixels), self.engine.class_names) if explains else []
        ranges = self._ranges(frame, msg.header, found)
        rows = self.record.add(found, camera, frame_name("", "", stamp), why=known, ranges=ranges)
        rendering = Rendering(pixels, AnomalyFrame(probability, found.mask), found, self.config.node)
        overlay_rgb = rendering.overlay
        received_ns = self._received_ns(frame, stamp)
        for name in self.config.outputs:
            content = overlay_rgb if name == "overlay" else OUTPUTS[name].content(rendering)
            message = serialize_image(content, OUTPUTS[name].encoding, msg.header)
            self.annotated.write(output_topic(camera, name), received_ns, message)
        self._add_to_video(frame.topic, overlay_rgb)

        name = frame_name(self.job.name, camera, stamp)
        self.frame_names[name] += 1
        repeated = self.frame_names[name]  # drivers that do not stamp their images send 0
        unique = name if repeated == 1 else f"{name}#{repeated}"
        detail = self._detail(frame, stamp, pixels, rows)
        self.evaluator.update(unique, pixels, scores, self._labels(frame.topic, stamp, probability), latency_ms, detail)

    def _detail(
        self, frame: BagMessage, stamp: int, pixels: NDArray[np.uint8], rows: Sequence[dict[str, Any]]
    ) -> FrameDetail:
        """Tell where a frame belongs, once it is in the video of its camera."""
        topic = frame.topic
        index = self.num_shown[topic]
        self.num_shown[topic] += 1
        video = os.path.relpath(self.job.folder / self._video_name(topic), self.job.stop_file.parent)
        health = self.judges[topic].look(pixels, (stamp or frame.time_ns) * 1e-9, self.config.node.health).summary
        return FrameDetail(
            sequence="/".join(part for part in (self.job.name, self.cameras[topic]) if part),
            index=index,
            time_s=(frame.time_ns - self.began_ns) * 1e-9,
            video=printable(video),
            video_s=index / self.rate_hz[topic],
            obstacles=tuple(rows),
            health=health,
        )

    def _obstacles(self, frame: BagMessage, stamp: int, probability: NDArray[np.float32]) -> ObstacleFrame:
        """Find and follow obstacles; a frame without a stamp counts from when it was received."""
        node, threshold = self.config.node, self.engine.threshold
        found = find_obstacles(probability, node.obstacles, threshold=threshold)
        if node.tracking.enabled:
            stamp_s = (stamp or frame.time_ns) * 1e-9
            found = self.trackers[frame.topic].follow(found, stamp_s, node.tracking, threshold=threshold)
        return found.confirmed() if node.obstacles.confirmed_only else found

    def _ranges(self, frame: BagMessage, header: Any, found: ObstacleFrame) -> list[Range | None]:
        """Locate the obstacles, if the calibration is known; note once why they cannot be."""
        try:
            return [] if self.ranges is None else self.ranges.of(found, header, frame.time_ns)
        except GroundError as error:
            if (note := f"{frame.topic}: obstacles have no range: {error}") not in self.report.notes:
                self.report.notes.append(note)
            return []

    def _watch(self, topic: str, time_s: float, pixels: NDArray[np.uint8]) -> None:
        """Note if the images of a topic are no longer like those of the drive that was learnt from."""
        known, alpha = self.engine.normality, self.config.node.engine.drift_alpha
        if known is None or known.drift is None or not alpha:
            return
        watch = self.watches.setdefault(topic, DriftWatch(known.drift, alpha))
        if not watch.test.has_drifted and watch.is_due(time_s):
            watch.add(float(self.engine.distances(pixels)[0].mean()), time_s)
            if watch.finding:
                self.report.notes.append(f"{topic}: {watch.finding}")

    def _received_ns(self, frame: BagMessage, stamp: int) -> int:
        """Return the time at which a frame was received, or its stamp if that time is impossible."""
        if 0 <= frame.time_ns <= _MAX_NS:
            return frame.time_ns
        self.report.problems.append(
            f"{frame.topic}, frame received at {frame.time_ns} ns: impossible time, its stamp is used instead"
        )
        return max(stamp, 0)

    def _labels(self, topic: str, stamp: int, probability: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """Return the labels of a frame; None, and a problem in the report, if they cannot be used."""
        try:
            values = self.labels[topic].read(stamp)
            if values is None:
                return None
            labels = self.config.label_values.apply(values)
            check_frame(probability, labels)
        except (DatasetError, ImageError) as error:
            self.report.problems.append(f"{topic}, labels of stamp {stamp}: {error}")
            return None
        self.report.census.add(values, self.config.label_values)
        return labels

    def _video_name(self, topic: str) -> str:
        return f"overlay_{self.cameras[topic]}.mp4" if self.cameras[topic] else "overlay.mp4"

    def _add_to_video(self, topic: str, frame_rgb: NDArray[np.uint8]) -> None:
        """Append a frame to the video of its camera, resized to the size of the first frame."""
        if topic not in self.video_of:
            temporary = self.videos.enter_context(atomic_write(self.job.folder / self._video_name(topic)))
            video = self.videos.enter_context(VideoWriter(temporary, self.rate_hz[topic]))
            height, width = (min(max(side, _VIDEO_SIDE_PX[0]), _VIDEO_SIDE_PX[1]) for side in frame_rgb.shape[:2])
            self.video_of[topic] = (video, (height, width))
        video, size_hw = self.video_of[topic]
        if frame_rgb.shape[:2] != size_hw:
            frame_rgb = np.asarray(cv2.resize(frame_rgb, size_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
        video.write(frame_rgb)


@functools.lru_cache(maxsize=1)
def _engine(node: NodeConfig, score: str) -> AnomalyEngine:
    """Load the engine, once in a process for all of its bags."""
    config = replace(node.engine, score=score)
    normality = node.normality or None
    return AnomalyEngine.load(node.checkpoint, config, node.head or None, normality=normality, download=False)


def _rate_hz(frames: list[BagMessage]) -> dict[str, float]:
    """Estimate the frame rate of each topic from the median step between frames."""
    times: dict[str, list[int]] = {}
    for frame in frames:
        times.setdefault(frame.topic, []).append(frame.time_ns)
    rates = {}
    for topic, received in times.items():
        steps = [later - earlier for earlier, later in pairwise(received) if later > earlier]
        rates[topic] = min(max(1e9 / statistics.median(steps), 0.1), 120.0) if steps else 1.0
    return rates
