"""The path of a batch: decode, infer, find obstacles, publish."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import AnomalyFrame, ConfigError, ImageError
from eomt_ext_core.obstacles import ObstacleFrame, check_obstacle_config, find_obstacles
from eomt_ext_ros.camera import Camera, stamp_ns
from eomt_ext_ros.camera_info import published_camera_info
from eomt_ext_ros.images import to_image_msg
from eomt_ext_ros.inference import OUT_OF_MEMORY, Inference
from eomt_ext_ros.node_config import NodeConfig
from eomt_ext_ros.obstacle_messages import to_obstacles_msg
from eomt_ext_ros.outputs import IMAGE_OUTPUTS, Rendering, scaled_hw
from eomt_ext_ros.reports import Reports, explained, in_brief
from eomt_ext_ros.settings import Settings

_SHOW_OBSTACLES = {"mask", "overlay", "obstacles"}


class _Job(NamedTuple):
    """An image on its way, and the outputs that somebody waits for."""

    camera: Camera
    header: Any
    image_rgb: NDArray[np.uint8]
    wanted: set[str]

    def needs_semantic(self, config: NodeConfig) -> bool:
        by_region = config.obstacles.region == "drivable" and bool(self.wanted & _SHOW_OBSTACLES)
        return by_region or "semantic" in self.wanted


class Pipeline:
    """Answers batches of image messages, each image with outputs of its own header; belongs to the inference thread.

    An image that is rejected, or whose inference fails, has no output at all: it is counted and, seldom enough, logged.

    Args:
        cameras: by name.
        inference: of the model.
        settings: of the node.
        reports: where errors are logged.

    Raises:
        ConfigError: where the model does not go with the settings.
    """

    def __init__(
        self, cameras: Mapping[str, Camera], inference: Inference, settings: Settings, reports: Reports
    ) -> None:
        self._cameras, self._reports = cameras, reports
        self._inference, self._settings = inference, settings
        _check(inference, settings)
        self._renderer = ThreadPoolExecutor(1, "rendering")

    def close(self) -> None:
        """End the thread that renders."""
        self._renderer.shutdown(wait=False, cancel_futures=True)

    @property
    def inference(self) -> Inference:
        """Of the model in use."""
        return self._inference

    def use(self, inference: Inference) -> None:
        """Let the next batch run through another model.

        Raises:
            ConfigError: where it does not go with the settings; then the one in use stays.
        """
        inference.configure(self._settings.node.engine)  # which may have changed while it was loaded
        _check(inference, self._settings)
        self._inference = inference

    def apply(self, settings: Settings) -> None:
        """Let the next batch run under other settings; may be called by another thread.

        Raises:
            ConfigError: where the model does not go with them; then all stays as it was.
        """
        inference = self._inference
        inference.configure(settings.node.engine)
        try:
            _check(inference, settings)
        except ConfigError:
            inference.configure(self._settings.node.engine)
            raise
        self._settings = settings

    def answer(self, batch: Mapping[str, Any]) -> float:
        """Work on image messages, by camera; returns the seconds to rest before the next batch."""
        began_s = time.monotonic()
        inference, settings = self._inference, self._settings
        config = settings.node
        jobs = []
        for name, msg in batch.items():
            camera = self._cameras[name]
            with self._accounted(camera):
                if wanted := camera.wanted(config.outputs):
                    jobs.append(_decode(camera, msg, wanted))
                else:
                    camera.statistics.skipped()
        seen = [job for job in jobs if job.wanted != {"camera_info"}]
        outcomes = inference.infer(
            [job.image_rgb for job in seen], semantic=any(job.needs_semantic(config) for job in seen)
        )
        outcome_of = {job.camera.name: outcome for job, outcome in zip(seen, outcomes, strict=True)}
        for job in jobs:
            with self._accounted(job.camera):
                outcome = outcome_of.get(job.camera.name)
                if isinstance(outcome, Exception):
                    raise outcome
                if outcome is not None:
                    self._publish(job, outcome, inference, settings)
                if "camera_info" in job.wanted:
                    self._publish_camera_info(job, config)
                job.camera.statistics.published(
                    time.monotonic() - began_s, job.camera.age_s(job.header.stamp), config.diagnostics.late_after_s
                )
        return inference.rest_s

    def _publish(self, job: _Job, frame: AnomalyFrame, inference: Inference, settings: Settings) -> None:
        found = ObstacleFrame(frame.mask, [], 0)
        if job.wanted & _SHOW_OBSTACLES:
            found = find_obstacles(
                frame.probability,
                settings.obstacles(job.camera.name),
                threshold=inference.engine.threshold,
                semantic=frame.semantic,
                class_names=inference.engine.class_names,
            )
        rendering = Rendering(job.image_rgb, frame, found, settings.node)
        names = [name for name in IMAGE_OUTPUTS if name in job.wanted]
        # Publishing holds Python's lock and rendering does not: the next image is rendered while one is published.
        images = [self._renderer.submit(rendering.image, name) for name in names]
        for name, image in zip(names, images, strict=True):
            job.camera.publishers[name].publish(to_image_msg(*image.result(), job.header))
        if "obstacles" in job.wanted:
            msg = to_obstacles_msg(found.obstacles, job.header, rendering.scale_xy)
            job.camera.publishers["obstacles"].publish(msg)

    def _publish_camera_info(self, job: _Job, config: NodeConfig) -> None:
        info = job.camera.info
        if info is None:
            return
        height, width = job.image_rgb.shape[:2]
        published_hw = scaled_hw((height, width), config.publish_scale)
        try:
            msg = published_camera_info(info, job.header, (height, width), published_hw)
        except ImageError as error:
            self._reports.error("withheld camera_info", str(error))
        else:
            job.camera.publishers["camera_info"].publish(msg)

    @contextmanager
    def _accounted(self, camera: Camera) -> Iterator[None]:
        """Count and report what stands in the way of an image's answer."""
        source = f"image of {camera.name}" if camera.name else "image"
        try:
            yield
        except Exception as error:
            if isinstance(error, ImageError):
                camera.statistics.rejected(error.reason, str(error))
                self._reports.error("rejected", f"{source} rejected: {error}")
            elif isinstance(error, OUT_OF_MEMORY):
                camera.statistics.failed("memory", str(error))
                self._reports.error("failed", f"{source} not answered, out of memory: {error}")
            else:
                camera.statistics.failed("inference", in_brief(error))
                self._reports.error("failed", f"{source} not answered, inference failed: {explained(error)}")
            # Diagnostics go on telling it; the frames that it came through hold images, and what the network had made.
            error.__traceback__ = None


def _decode(camera: Camera, msg: Any, wanted: set[str]) -> _Job:
    image_rgb = camera.decode(msg)
    if not camera.timeline.take(stamp_ns(msg.header.stamp)):
        raise ImageError("an image must be newer than the one answered before it, got an older or equal stamp", "stale")
    return _Job(camera, msg.header, image_rgb, wanted)


def _check(inference: Inference, settings: Settings) -> None:
    engine = inference.engine
    for camera in settings.cameras:
        check_obstacle_config(settings.obstacles(camera), engine.threshold, engine.class_names)
