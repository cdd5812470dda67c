"""The path of a batch: decode, infer, find obstacles, publish."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame, ConfigError, EomtExtError, ImageError
from eomt_ext_core.obstacles import ObstacleFrame, check_obstacle_config, find_obstacles
from eomt_ext_ros.diagnostics.reports import Reports, explained, in_brief
from eomt_ext_ros.diagnostics.snapshot import PICTURES_ENDED
from eomt_ext_ros.inference.engine import Engine
from eomt_ext_ros.inference.inference import Inference, Outcome
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.inference.tracebacks import drop_tracebacks
from eomt_ext_ros.messages.images import lost_colours
from eomt_ext_ros.outputs.registry import OUTPUTS, Output
from eomt_ext_ros.outputs.rendering import Rendering
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.settings import Settings, of_camera
from eomt_ext_ros.pipeline.camera import Camera, stamp_ns
from eomt_ext_ros.workers.picture_thread import PictureThread

_BY_NAME = {output.name: output for output in OUTPUTS}
_IMAGES_BEFORE_CALIBRATION = 10


class _Terms(NamedTuple):
    """What a batch is worked on by, from its first image to its last output, whatever changes meanwhile."""

    inference: Inference
    settings: Settings
    threshold: float

    @property
    def engine(self) -> Engine:
        return self.inference.engine


class _Job(NamedTuple):
    """An image on its way, the outputs that somebody waits for, and those that it will be answered without."""

    camera: Camera
    header: Any
    image_rgb: NDArray[np.uint8]
    wanted: set[str]
    withheld: set[str]
    began_s: float

    @property
    def outputs(self) -> list[Output]:
        """In the order of the registry."""
        return [output for output in OUTPUTS if output.name in self.wanted]

    @property
    def needs(self) -> set[str]:
        """What has to be computed for them."""
        return set[str]().union(*(output.needs for output in self.outputs))

    def needs_semantic(self, config: NodeConfig) -> bool:
        return "semantic" in self.needs or (config.obstacles.region == "drivable" and "obstacles" in self.needs)


class _Showing(NamedTuple):
    """Pictures of an image that are to be drawn; its answer, where no program reads anything of it."""

    job: _Job
    rendering: Rendering
    names: list[str]
    config: NodeConfig
    is_answer: bool


class Pipeline:
    """Answers batches of image messages, each image with outputs of its own header, in the inference thread.

    Pictures, which are for people, are drawn and published by another thread, beside the next batch.

    An image that is rejected, or whose inference fails, has no output at all: it is counted and, seldom enough, logged.

    Args:
        cameras: by name.
        inference: of the model.
        settings: of the node.
        reports: where errors are logged.

    Attributes:
        picture_thread: draws them; whoever makes a pipeline is to stop it.

    Raises:
        ConfigError: where the model does not go with the settings.
    """

    def __init__(
        self, cameras: Mapping[str, Camera], inference: Inference, settings: Settings, reports: Reports
    ) -> None:
        self._cameras, self._reports = cameras, reports
        self._lock = threading.Lock()  # of the terms
        self._terms = _agreed(inference, settings)
        self._told_of_semantic = False
        self._reported_colours = set[str]()  # cameras
        self._without_info: Counter[str] = Counter()  # images of a camera
        self.picture_thread = PictureThread(max(1, len(cameras)))

    @property
    def inference(self) -> Inference:
        """Of the model in use."""
        return self._terms.inference

    @property
    def threshold(self) -> float:
        """The probability above which a pixel belongs to the mask."""
        return self._terms.threshold

    def use(self, inference: Inference) -> None:
        """Let the next batch run through another model.

        Raises:
            ConfigError: where it does not go with the settings; then the one in use stays.
        """
        with self._lock:
            self._terms = _agreed(inference, self._terms.settings)  # which may have changed while it was loaded
        self._told_of_semantic = False

    def apply(self, settings: Settings) -> None:
        """Let the next batch run under other settings; may be called by another thread.

        Raises:
            ConfigError: where the model does not go with them; then all stays as it was.
        """
        with self._lock:
            self._terms = _agreed(self._terms.inference, settings)

    def answer(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Work on image messages, by camera; returns the cameras that are to rest, and for how many seconds."""
        began_s = time.monotonic()
        terms = self._terms
        config = terms.settings.node
        jobs = []
        for name, msg in batch.items():
            camera = self._cameras[name]
            with self._accounted(camera, "input"):
                wanted = camera.wanted(config.outputs)
                why_not = camera.why_unwanted(config.outputs) if not wanted else ""
                withheld = set[str]()
                if "semantic" in wanted and not terms.engine.has_semantic:
                    why_not = self._without_semantic()
                    wanted.remove("semantic")
                    withheld.add("semantic")
                if wanted:
                    jobs.append(_decode(camera, msg, wanted, withheld, began_s))
                    self._report_lost_colours(camera, msg)
                else:
                    camera.statistics.skipped(why_not)
        showings = []
        for job, outcome in _outcomes(jobs, terms):
            if isinstance(outcome, Exception):
                self._fail(job.camera, "inference", outcome)
                continue
            with self._accounted(job.camera, "output"):
                showings.append(self._publish(job, outcome, terms))
        for showing in filter(None, showings):  # last, as it may have to wait for those before it
            if not self.picture_thread.put(functools.partial(self._show, showing)):
                self._settle(showing, dict.fromkeys(showing.names, EomtExtError(PICTURES_ENDED)))
        return terms.inference.backoffs_s

    def _publish(self, job: _Job, frame: AnomalyFrame | None, terms: _Terms) -> _Showing | None:
        """Publish what programs read of an image, and count it as answered by that; the pictures there are to draw."""
        config = terms.settings.node
        rendering = _rendering_of(job, frame, terms)
        messages = {}
        for output in job.outputs:
            if "camera_info" in output.needs:
                if (message := self._camera_info(output, job, rendering)) is not None:
                    messages[output.name] = message
                else:
                    job.withheld.add(output.name)
            elif output.audience == "programs":
                messages[output.name] = output.message(rendering)
        # All of them are there before the first is published: a program has all outputs of an image or none.
        for name, message in messages.items():
            job.camera.publishers[name].publish(message)
        pictures = [output.name for output in job.outputs if output.audience == "people"]
        if messages:
            _count_published(job, config)
        elif not pictures:
            job.camera.statistics.skipped("camera_info alone is subscribed to, and none goes with the image")
        if not pictures:
            return None
        return _Showing(job, rendering, pictures, config, is_answer=not messages)

    def _show(self, showing: _Showing) -> None:
        """Draw and publish pictures, in the thread for them."""
        self._settle(showing, _publish_pictures(showing))

    def _settle(self, showing: _Showing, failed: Mapping[str, Exception]) -> None:
        """Count and tell what became of pictures."""
        job = showing.job
        if showing.is_answer and len(failed) == len(showing.names):
            self._fail(job.camera, "output", next(iter(failed.values())), time.monotonic() - job.began_s)
        else:
            for name, error in failed.items():
                self._tell_withheld(name, job.camera, explained(error))
            if showing.is_answer:
                job.withheld.update(failed)
                _count_published(job, showing.config)
            else:
                job.camera.statistics.withheld(failed)
        for error in failed.values():
            drop_tracebacks(error)  # which hold the image

    def _tell_withheld(self, output: str, camera: Camera, why: str) -> None:
        what = f"{_of(output, camera)} withheld"
        self._reports.error(what, f"{what}: {why}")

    def _camera_info(self, output: Output, job: _Job, rendering: Rendering) -> Any:
        """The calibration for the published images, or none where none came in or it is not theirs."""
        if rendering.camera_info is None:
            self._tell_of_no_calibration(job.camera)
            return None
        self._without_info.pop(job.camera.name, None)
        try:
            return output.message(rendering)
        except ImageError as error:
            self._tell_withheld("camera_info", job.camera, str(error))
            return None

    def _tell_of_no_calibration(self, camera: Camera) -> None:
        """Say once that none comes in, until one does: the first may come a little late, and some cameras have none."""
        self._without_info[camera.name] += 1
        if self._without_info[camera.name] == _IMAGES_BEFORE_CALIBRATION:
            self._tell_withheld("camera_info", camera, f"none comes in on {camera.info_topic}")

    def _report_lost_colours(self, camera: Camera, msg: Any) -> None:
        """Report once for a camera that its images come without their colours."""
        if camera.name not in self._reported_colours and (why := lost_colours(msg)):
            self._reported_colours.add(camera.name)
            self._reports.error(f"{_of('colours', camera)} lost", f"{_of('image', camera)} without colours: {why}")

    def _without_semantic(self) -> str:
        """Why that output is left out; in the log once for each model."""
        why = "semantic is subscribed to, but the model does not give the class of each pixel: see docs/export.md"
        if not self._told_of_semantic:
            self._told_of_semantic = True
            self._reports.error("semantic withheld", why)
        return why

    @contextmanager
    def _accounted(self, camera: Camera, stage: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._fail(camera, stage, error)

    def _fail(self, camera: Camera, stage: str, error: Exception, taken_s: float = 0.0) -> None:
        """Count and report what stands in the way of an image's answer, in the stage ``input`` or another.

        ``taken_s`` as :meth:`CameraStatistics.failed` takes it.
        """
        source = _of("image", camera)
        if isinstance(error, ImageError):
            camera.statistics.rejected(error.reason, str(error))
            self._reports.error("rejected", f"{source} rejected: {error}")
        elif is_out_of_memory(error):
            camera.statistics.failed("memory", str(error), taken_s)
            self._reports.error("failed", f"{source} not answered, out of memory: {error}")
        else:
            camera.statistics.failed(stage, in_brief(error), taken_s)
            self._reports.error("failed", f"{source} not answered, {stage} failed: {explained(error)}")
        # Diagnostics go on telling it; the frames that it came through hold images, and what the network had made.
        drop_tracebacks(error)


def _of(what: str, camera: Camera) -> str:
    return f"{what} of {camera.name}" if camera.name else what


def _decode(camera: Camera, msg: Any, wanted: set[str], withheld: set[str], began_s: float) -> _Job:
    image_rgb = camera.decode(msg)
    if not camera.timeline.take(stamp_ns(msg.header.stamp)):
        raise ImageError("an image must be newer than the one answered before it, got an older or equal stamp", "stale")
    return _Job(camera, msg.header, image_rgb, wanted, withheld, began_s)


def _rendering_of(job: _Job, frame: AnomalyFrame | None, terms: _Terms) -> Rendering:
    """The outputs of an image, each rendered when asked for; finds the obstacles, where an output shows them."""
    found: ObstacleFrame | None = None
    if frame is not None and "obstacles" in job.needs:
        found = find_obstacles(
            frame.probability,
            terms.settings.obstacles(job.camera.name),
            threshold=terms.threshold,
            semantic=frame.semantic,
            class_names=terms.engine.class_names,
        )
    return Rendering(job.image_rgb, frame, found, terms.settings.node, header=job.header, camera_info=job.camera.info)


def _publish_pictures(showing: _Showing) -> dict[str, Exception]:
    """Draw and publish pictures; what stood in the way of which."""
    job, failed = showing.job, dict[str, Exception]()
    for name in showing.names:
        try:
            job.camera.publishers[name].publish(_BY_NAME[name].message(showing.rendering))
        except Exception as error:
            failed[name] = error
    return failed


def _count_published(job: _Job, config: NodeConfig) -> None:
    taken_s = time.monotonic() - job.began_s
    job.camera.statistics.withheld(job.withheld)
    job.camera.statistics.published(taken_s, job.camera.age_s(job.header.stamp), config.diagnostics.late_after_s)


def _outcomes(jobs: list[_Job], terms: _Terms) -> Iterator[tuple[_Job, Outcome | None]]:
    """What becomes of images, each as soon as it is known; none where nothing is to be inferred."""
    config, left = terms.settings.node, dict[str, _Job]()
    for job in jobs:
        if "inference" not in job.needs:
            terms.inference.forget_failure(job.camera.name)
            yield job, None
        else:
            left[job.camera.name] = job
    images_rgb = {name: job.image_rgb for name, job in left.items()}
    semantic = {name for name, job in left.items() if job.needs_semantic(config)}
    try:
        for outcomes in terms.inference.infer(images_rgb, config.engine, semantic=semantic):
            for name, outcome in outcomes.items():
                yield left.pop(name), outcome
    except Exception as error:
        for job in left.values():
            yield job, error


def _agreed(inference: Inference, settings: Settings) -> _Terms:
    """A model and the settings that it is to run under, which it takes up.

    Raises:
        ConfigError: where they do not go together; then the model stays as it was.
    """
    engine, config = inference.engine, settings.node
    threshold = engine.threshold_of(engine.checked(config.engine))
    if config.obstacles.region == "drivable" and not engine.has_semantic:
        raise ConfigError(
            "region drivable needs the class of each pixel, which this model does not give (it is an export without "
            "--semantic, or has more than 256 classes): export it anew, or choose the region polygon or everywhere"
        )
    for camera in settings.cameras:
        with of_camera(camera):
            check_obstacle_config(settings.obstacles(camera), threshold, engine.class_names)
    return _Terms(inference, settings, threshold)
