"""The outputs of an image that was inferred: those for programs at once, visualisations beside the next image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from eomt_ext_core import AnomalyFrame, ImageError
from eomt_ext_core.errors import GroundError
from eomt_ext_core.obstacles import ObstacleFrame, find_obstacles
from eomt_ext_ros.outputs.registry import Output
from eomt_ext_ros.outputs.rendering import OnGround, Rendering
from eomt_ext_ros.pipeline.batch_context import BatchContext
from eomt_ext_ros.pipeline.camera import stamp_ns
from eomt_ext_ros.pipeline.camera_image import CameraImage
from eomt_ext_ros.pipeline.image_reports import ImageReports
from eomt_ext_ros.pipeline.judging import check_health, judge_classes

NOTHING_PUBLISHED = "all that is subscribed to needs a camera_info or the ground, and is withheld"


@dataclass(frozen=True)
class Visualisations:
    """Outputs for people that are to be drawn of an image.

    Attributes:
        late_after_s: the limit of the image's latency if nothing else is published of it; None if something is.
    """

    image: CameraImage
    rendering: Rendering
    outputs: tuple[Output, ...]
    late_after_s: float | None


def publish(
    image: CameraImage, frame: AnomalyFrame | None, context: BatchContext, reports: ImageReports
) -> Visualisations | None:
    """Publish an image's outputs for programs: all of them or, if one cannot be made, none.

    Args:
        image: that was processed.
        frame: what the engine found in it; None if no output needs inference.
        context: of the batch.
        reports: count the image as published, unless it is left to its visualisations.

    Returns:
        the visualisations that are to be drawn.

    Raises:
        ImageError: if the camera must be well and is not.
    """
    if frame is not None and frame.semantic is not None:
        judge_classes(image, frame.semantic, context, reports)
    check_health(image.camera, context.config.health)
    rendering = _rendering(image, frame, context, reports)
    late_after_s = context.config.diagnostics.late_after_s
    messages = {}
    for output in image.outputs:
        if output.audience == "programs" and (message := _message(output, image, rendering, reports)) is not None:
            messages[output.name] = message
    for name, message in messages.items():
        image.camera.publishers[name].publish(message)
    for_people = tuple(output for output in image.outputs if output.audience == "people")
    if messages:
        reports.published(image, late_after_s)
    elif not for_people:
        image.camera.statistics.skipped(NOTHING_PUBLISHED)
    if not for_people:
        return None
    return Visualisations(image, rendering, for_people, None if messages else late_after_s)


def draw_and_publish(visualisations: Visualisations, reports: ImageReports) -> None:
    """Draw an image's outputs for people, and publish each as soon as it is drawn."""
    image, errors = visualisations.image, dict[str, BaseException]()
    for output in visualisations.outputs:
        try:
            image.camera.publishers[output.name].publish(output.message(visualisations.rendering))
        except BaseException as error:  # nobody else would report it in this thread
            errors[output.name] = error
    names = [output.name for output in visualisations.outputs]
    reports.visualised(image, names, errors, visualisations.late_after_s)


def _rendering(
    image: CameraImage, frame: AnomalyFrame | None, context: BatchContext, reports: ImageReports
) -> Rendering:
    found: ObstacleFrame | None = None
    if frame is not None and "obstacles" in image.needs:
        config = context.settings.obstacles(image.camera.name)
        found = find_obstacles(
            frame.probability,
            config,
            threshold=context.threshold,
            semantic=frame.semantic,
            class_names=context.engine.class_names,
        )
        image.camera.statistics.masked(float(np.count_nonzero(found.mask)) / found.mask.size)
        found = _followed(image, found, context)
        found = found.confirmed() if config.confirmed_only else found
    on_ground = _on_ground(image, frame, found, context, reports)
    return Rendering(
        image.pixels_rgb,
        frame,
        found,
        context.config,
        header=image.header,
        camera_info=image.camera.info,
        on_ground=on_ground,
    )


def _on_ground(
    image: CameraImage,
    frame: AnomalyFrame | None,
    found: ObstacleFrame | None,
    context: BatchContext,
    reports: ImageReports,
) -> OnGround | None:
    """Locate the obstacles if that is asked for; None, which is reported to who needs it, if they cannot be."""
    is_needed = "ground" in image.needs
    is_shown = is_needed or any("ground" in output.shows for output in image.outputs)
    if frame is None or found is None or not is_shown:
        image.camera.statistics.located()
        return None
    try:
        on_ground = image.camera.ground.locate(
            found,
            image.camera.info,
            image.header,
            context.config.ground,
            context.settings.obstacles(image.camera.name),
            frame.semantic,
            context.engine.class_names,
        )
    except GroundError as error:
        if is_needed:
            reports.without_ground(image, str(error))
        else:
            image.camera.statistics.located()
        return None
    image.camera.statistics.located()
    return on_ground


def _followed(image: CameraImage, found: ObstacleFrame, context: BatchContext) -> ObstacleFrame:
    """Give obstacles their ids; an image without a stamp counts from when its batch began."""
    config = context.config.tracking
    if config.enabled:
        stamp_s = stamp_ns(image.header.stamp) * 1e-9 or image.started_s
        found = image.camera.tracker.follow(found, stamp_s, config, threshold=context.threshold)
    image.camera.statistics.followed(Counter(each.state for each in found.listed if each.state))
    return found


def _message(output: Output, image: CameraImage, rendering: Rendering, reports: ImageReports) -> Any:
    """Make a message; None, which is reported, if there is no calibration or no ground for the image."""
    if output.name in image.withheld:
        return None
    if "camera_info" not in output.needs:
        return output.message(rendering)
    if rendering.camera_info is None:
        reports.without_calibration(image.camera)
    else:
        reports.with_calibration(image.camera)
        try:
            return output.message(rendering)
        except ImageError as error:
            reports.withheld(image.camera, output.name, str(error))
    image.withheld.add(output.name)
    return None
