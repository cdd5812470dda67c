"""Whether each camera's images are still like those of the drive that the model's normality was learnt from."""

from __future__ import annotations

from eomt_ext_core import AnomalyFrame
from eomt_ext_core.normality.drift import DriftReference, DriftWatch
from eomt_ext_ros.pipeline.batch_context import BatchContext
from eomt_ext_ros.pipeline.camera import stamp_ns
from eomt_ext_ros.pipeline.camera_image import CameraImage


class DriftWatches:
    """Watch every camera for itself, anew with another normality file or another bound; belongs to one thread."""

    def __init__(self) -> None:
        self._watches: dict[str, tuple[DriftReference, float, DriftWatch]] = {}

    def watch(self, image: CameraImage, frame: AnomalyFrame, context: BatchContext) -> None:
        """Watch an image if it is due, and note in its camera's statistics what there is to tell."""
        camera, alpha = image.camera, context.config.engine.drift_alpha
        known = None if frame.strangeness is None else context.engine.normality
        if known is None or known.drift is None or frame.strangeness is None:
            if self._watches.pop(camera.name, None) is not None:
                camera.statistics.drifted("")
            return
        reference, bound, watch = self._watches.get(camera.name, (None, alpha, None))
        if watch is None or reference is not known.drift or bound != alpha:
            watch = DriftWatch(known.drift, alpha)
            self._watches[camera.name] = known.drift, alpha, watch
        time_s = stamp_ns(image.header.stamp) / 1e9
        if watch.is_due(time_s):
            watch.add(frame.strangeness, time_s)
            camera.statistics.drifted(watch.finding)
