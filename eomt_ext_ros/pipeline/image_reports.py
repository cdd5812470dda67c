"""What becomes of images, counted in the statistics of their camera and reported in the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eomt_ext_core import ImageError
from eomt_ext_core.health import Health
from eomt_ext_ros.diagnostics.throttled_log import ThrottledLog, explained, in_brief
from eomt_ext_ros.inference.memory import is_out_of_memory
from eomt_ext_ros.inference.tracebacks import drop_tracebacks
from eomt_ext_ros.messages.images import lost_colours
from eomt_ext_ros.pipeline.camera import Camera
from eomt_ext_ros.pipeline.camera_image import CameraImage

_IMAGES_BEFORE_CALIBRATION = 10
_NO_SEMANTIC = "semantic is subscribed to, but the model does not give the class of each pixel: see docs/export.md"


class ImageReports:
    """Count what becomes of images, and log what an operator should know; for use by several threads."""

    def __init__(self, log: ThrottledLog) -> None:
        self._log = log
        self._is_semantic_reported = False
        self._without_colours = set[str]()  # cameras
        self._without_info: Counter[str] = Counter()  # images of a camera

    @contextmanager
    def catching(self, camera: Camera, stage: str, began_s: float | None = None) -> Iterator[None]:
        """Report an exception as the failure of an image, as :meth:`failed` does, and go on."""
        try:
            yield
        except Exception as error:
            self.failed(camera, stage, error, began_s)

    def failed(self, camera: Camera, stage: str, error: BaseException, began_s: float | None = None) -> None:
        """Report why an image has no outputs.

        Args:
            camera: that sent it.
            stage: ``input``, ``inference`` or ``output``.
            error: what was raised; it keeps no traceback, as diagnostics go on reporting it, and frames hold images.
            began_s: when its turn began, on the steady clock, if the next image may have had its turn meanwhile.
        """
        taken_s = 0.0 if began_s is None else time.monotonic() - began_s
        source = _of("image", camera)
        if isinstance(error, ImageError):
            camera.statistics.rejected(error.reason, str(error), taken_s)
            self._log.error("rejected", f"{source} rejected: {error}")
        elif is_out_of_memory(error):
            text = f"out of memory: {str(error) or type(error).__name__}"  # a MemoryError says nothing
            camera.statistics.failed("memory", text, taken_s)
            self._log.error("failed", f"{source} not processed, {text}")
        else:
            camera.statistics.failed(stage, in_brief(error), taken_s)
            self._log.error("failed", f"{source} not processed, {stage} failed: {explained(error)}")
        drop_tracebacks(error)

    def published(self, image: CameraImage, late_after_s: float) -> None:
        """Count an image as published."""
        image.camera.statistics.withheld(image.withheld)
        latency_s = image.camera.age_s(image.header.stamp)
        image.camera.statistics.published(image.taken_s, latency_s, late_after_s)

    def visualised(
        self, image: CameraImage, names: Iterable[str], errors: Mapping[str, BaseException], late_after_s: float | None
    ) -> None:
        """Report what became of the visualisations of an image.

        Args:
            image: that they show.
            names: of all of them.
            errors: why some are withheld, by name.
            late_after_s: as in :meth:`published` if nothing else was published of the image; None if something was.
        """
        if late_after_s is not None and errors and set(names) == errors.keys():
            self.failed(image.camera, "output", next(iter(errors.values())), image.started_s)
        else:
            for name, error in errors.items():
                self.withheld(image.camera, name, explained(error))
            if late_after_s is None:
                image.camera.statistics.withheld(errors)
            else:
                image.withheld.update(errors)
                self.published(image, late_after_s)
        for error in errors.values():
            drop_tracebacks(error)

    def withheld(self, camera: Camera, output: str, why: str) -> None:
        """Log that an output of an image is withheld."""
        what = f"{_of(output, camera)} withheld"
        self._log.error(what, f"{what}: {why}")

    def health(self, camera: Camera, health: Health | None) -> None:
        """Log what is wrong with a camera by its images."""
        if health is not None and health.faults:
            texts = "; ".join(fault.text for fault in health.faults)
            self._log.error(_of("health", camera), f"{_of('camera', camera)} is not well: {texts}")

    def without_calibration(self, camera: Camera) -> None:
        """Log once that none comes in, until one does: the first may come a little late, and some cameras have none."""
        self._without_info[camera.name] += 1
        if self._without_info[camera.name] == _IMAGES_BEFORE_CALIBRATION:
            self.withheld(camera, "camera_info", f"none comes in on {camera.info_topic}")

    def without_ground(self, image: CameraImage, why: str) -> None:
        """Report that the obstacles of an image are not located: its outputs of the ground are withheld."""
        image.withheld.update(output.name for output in image.outputs if "ground" in output.needs)
        image.camera.statistics.located(why)
        self._log.error(_of("ground", image.camera), f"{_of('ground outputs', image.camera)} withheld: {why}")

    def with_calibration(self, camera: Camera) -> None:
        """Count anew how many images come without a calibration."""
        self._without_info.pop(camera.name, None)

    def without_semantic(self) -> str:
        """Give the reason, and log it once for each model."""
        if not self._is_semantic_reported:
            self._is_semantic_reported = True
            self._log.error("semantic withheld", _NO_SEMANTIC)
        return _NO_SEMANTIC

    def with_another_model(self) -> None:
        """Log anew what was logged of the model before."""
        self._is_semantic_reported = False

    def colours(self, camera: Camera, msg: Any) -> None:
        """Report whether an image comes without its colours, and log it once for each camera."""
        why = lost_colours(msg)
        camera.statistics.without_colours(why)
        if why and camera.name not in self._without_colours:
            self._without_colours.add(camera.name)
            self._log.error(f"{_of('colours', camera)} lost", f"{_of('image', camera)} without colours: {why}")


def _of(what: str, camera: Camera) -> str:
    return f"{what} of {camera.name}" if camera.name else what
