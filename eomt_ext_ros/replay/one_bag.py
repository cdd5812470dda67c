"""One bag through the engine: the annotated bag, the video and the scores of it."""

from __future__ import annotations

import functools
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.engine import AnomalyEngine, AnomalyFrame
from eomt_ext_core.errors import DatasetError, EomtExtError, ImageError
from eomt_ext_core.evaluation.labels import check_frame
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.files import whole_file
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.video import VideoWriter
from eomt_ext_ros.bags import Bag, BagMessage, BagWriter
from eomt_ext_ros.bags.messages import COMPRESSED_IMAGE, IMAGE, deserialize, image_rgb, serialize_image, stamp_ns
from eomt_ext_ros.node_config import NodeConfig
from eomt_ext_ros.outputs import Rendering
from eomt_ext_ros.replay.job import BagJob, BagReport
from eomt_ext_ros.replay.labels import LabelFolder, Labels, LabelTopic, NoLabels
from eomt_ext_ros.replay.topics import camera_names, frame_name, output_topic

Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""


def replay_bag(job: BagJob, progress: Progress = lambda done, total: None) -> BagReport:
    """Run every frame of a bag through the engine and write ``annotated`` (a bag) and the videos into the job's folder.

    Never raises for what is in the bag: that is in the report, and what could be done is kept. The same holds for the
    loss of the disk or the GPU underway, and where the stop file appears.
    """
    report = BagReport(job.name)
    try:
        with ExitStack() as stack:
            _Replay(job, report, progress, stack).run()
    except Exception as error:
        report.error = report.error or _explained(error)  # what failed first is why files could not be finished
    return report


def _explained(error: Exception) -> str:
    """The message where it is one of ours and says it all, else the traceback."""
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
            spool_folder=job.folder,
        )
        self.evaluator = report.evaluator
        self.annotated = stack.enter_context(BagWriter(job.folder / "annotated"))
        self.videos = stack.enter_context(ExitStack())
        self.video_of: dict[str, tuple[VideoWriter, tuple[int, int]]] = {}
        self.labels: dict[str, Labels] = {}
        self.names: Counter[str] = Counter()

    def run(self) -> None:
        """Replay the bag; problems of a frame end that frame, others end the replay, with all files finished."""
        try:
            frames = self._frames()
            self.report.found = len(frames)
            self._open_labels()
            self.rate_hz = _rate_hz(frames)
            for number, frame in enumerate(frames):
                if self.job.stop_file.exists():
                    self.report.interrupted = True
                    break
                try:
                    self._replay(frame)
                    self.report.done += 1
                except EomtExtError as error:
                    self.report.problems.append(f"{frame.topic}, frame received at {frame.time_ns} ns: {error}")
                self.progress(number + 1, len(frames))
        except Exception as error:  # caught here, so that the files of what was done until now are finished in order
            self.report.error = _explained(error)
        self.report.problems[:0] = self.bag.problems

    def _frames(self) -> list[BagMessage]:
        """The frames to do, in the order they were received in."""
        topics = self.bag.topics
        images = sorted(name for name, found in topics.items() if found.msgtype in (IMAGE, COMPRESSED_IMAGE))
        for topic in self.config.image_topics:
            if topic in images:
                for output in self.config.outputs:
                    self.annotated.add_topic(output_topic(self.cameras[topic], output))
            else:
                kind = f"is of type {topics[topic].msgtype}" if topic in topics else "is not in the bag"
                self.report.problems.append(f"{topic} {kind}; its image topics are {', '.join(images) or 'none'}")
        wanted = [topic for topic in self.config.image_topics if topic in images or topic not in topics]
        counts: Counter[str] = Counter()
        frames = []
        for message in self.bag.messages(wanted, self.config.start_s, self.config.duration_s):
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

    def _replay(self, frame: BagMessage) -> None:
        started = time.perf_counter()
        data, msgtype = self.bag.read(frame), self.bag.topics[frame.topic].msgtype
        msg = deserialize(data, msgtype)
        pixels = image_rgb(msg, msgtype)
        scores = self.engine.score_maps(pixels, self.config.scores)
        latency_ms = 1e3 * (time.perf_counter() - started)

        camera, stamp = self.cameras[frame.topic], stamp_ns(data)
        probability = scores[self.config.scores[0]]
        found = find_obstacles(probability, self.config.node.obstacles, threshold=self.engine.threshold)
        rendering = Rendering(pixels, AnomalyFrame(probability, found.mask), found, self.config.node)
        images = {output: rendering.image(output) for output in {*self.config.outputs, "overlay"}}
        for output in self.config.outputs:
            message = serialize_image(*images[output], msg.header)
            self.annotated.write(output_topic(camera, output), frame.time_ns, message)
        self._film(frame.topic, images["overlay"][0])

        name = frame_name(self.job.name, camera, stamp)
        self.names[name] += 1
        unique = name if self.names[name] == 1 else f"{name}#{self.names[name]}"  # drivers that do not stamp send 0
        self.evaluator.update(unique, pixels, scores, self._labels(frame.topic, stamp, probability), latency_ms)

    def _labels(self, topic: str, stamp: int, probability: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """The frame's labels, or none and a problem where they cannot be used."""
        try:
            values = self.labels[topic].of(stamp)
            if values is None:
                return None
            labels = self.config.label_values.apply(values)
            check_frame(probability, labels)
        except (DatasetError, ImageError) as error:
            self.report.problems.append(f"{topic}, labels of stamp {stamp}: {error}")
            return None
        self.report.census.add(values, self.config.label_values)
        return labels

    def _film(self, topic: str, frame_rgb: NDArray[np.uint8]) -> None:
        """Append to the video of a camera; a frame of another size than its first is resized."""
        if topic not in self.video_of:
            name = f"overlay_{self.cameras[topic]}.mp4" if self.cameras[topic] else "overlay.mp4"
            temporary = self.videos.enter_context(whole_file(self.job.folder / name))
            video = self.videos.enter_context(VideoWriter(temporary, self.rate_hz[topic]))
            self.video_of[topic] = (video, (frame_rgb.shape[0], frame_rgb.shape[1]))
        video, size_hw = self.video_of[topic]
        if frame_rgb.shape[:2] != size_hw:
            frame_rgb = np.asarray(cv2.resize(frame_rgb, size_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
        video.write(frame_rgb)


@functools.lru_cache(maxsize=1)
def _engine(node: NodeConfig, score: str) -> AnomalyEngine:
    """The engine, loaded once in a process for all of its bags."""
    return AnomalyEngine.load(node.checkpoint, replace(node.engine, score=score), node.head or None)


def _rate_hz(frames: list[BagMessage]) -> dict[str, float]:
    """The frame rate of each topic, by the median step."""
    times: dict[str, list[int]] = {}
    for frame in frames:
        times.setdefault(frame.topic, []).append(frame.time_ns)
    rates = {}
    for topic, received in times.items():
        steps = [later - earlier for earlier, later in pairwise(received) if later > earlier]
        rates[topic] = min(max(1e9 / statistics.median(steps), 0.1), 120.0) if steps else 1.0
    return rates
