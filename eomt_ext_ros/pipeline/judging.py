"""Is the camera well? Each decoded image is judged; what changes is latched, counted and logged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import ImageError
from eomt_ext_core.health import CameraJudge, Health, HealthConfig
from eomt_ext_ros.pipeline.batch_context import BatchContext
from eomt_ext_ros.pipeline.camera import Camera, stamp_ns
from eomt_ext_ros.pipeline.camera_image import CameraImage
from eomt_ext_ros.pipeline.image_reports import ImageReports


def judge_pixels(image: CameraImage, config: HealthConfig, reports: ImageReports) -> None:
    """Judge the camera by the next image."""
    camera = image.camera
    if config.enabled:
        _report(camera, camera.judge.look(image.pixels_rgb, _stamp_s(image), config), reports)
    elif camera.statistics.health is not None:
        camera.judge = CameraJudge()
        _report(camera, None, reports)


def judge_classes(
    image: CameraImage, semantic: NDArray[np.uint8], context: BatchContext, reports: ImageReports
) -> None:
    """Judge the camera by the semantic classes of an image, which are computed for other purposes."""
    if (config := context.config.health).enabled:
        names = context.engine.class_names
        _report(image.camera, image.camera.judge.look_at_classes(semantic, names, _stamp_s(image), config), reports)


def check_health(camera: Camera, config: HealthConfig) -> None:
    """Refuse an image of a camera that must be well and is not.

    Raises:
        ImageError: naming the faults.
    """
    errors = [fault.text for fault in camera.judge.health.faults if fault.is_error]
    if config.enabled and config.require and errors:
        raise ImageError(f"with health.require the camera must be well, got {'; '.join(errors)}", "unhealthy")


def _report(camera: Camera, health: Health | None, reports: ImageReports) -> None:
    if camera.statistics.judged(health):
        camera.publish_health(health)
        reports.health(camera, health)


def _stamp_s(image: CameraImage) -> float:
    """The stamp of an image, or the start of its batch from a driver that does not stamp."""
    return stamp_ns(image.header.stamp) * 1e-9 or image.started_s
