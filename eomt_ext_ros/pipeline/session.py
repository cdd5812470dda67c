"""What the node has from configure to cleanup."""

from __future__ import annotations

import functools
import gc
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from rclpy.lifecycle import LifecycleNode

from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.diagnostics.throttled_log import ThrottledLog
from eomt_ext_ros.inference.engine import Engine
from eomt_ext_ros.inference.inference import Inference
from eomt_ext_ros.inference.memory import free_model_memory
from eomt_ext_ros.inference.tracebacks import clear_traceback_locals
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.settings import Settings
from eomt_ext_ros.pipeline.batch_context import BatchContext, describe_region, validated_context
from eomt_ext_ros.pipeline.camera import Camera
from eomt_ext_ros.pipeline.camera_image import CameraImage, decoded
from eomt_ext_ros.pipeline.drift_watches import DriftWatches
from eomt_ext_ros.pipeline.image_reports import ImageReports
from eomt_ext_ros.pipeline.judging import judge_pixels
from eomt_ext_ros.pipeline.publishing import Visualisations, draw_and_publish, publish
from eomt_ext_ros.pipeline.transforms import Transforms
from eomt_ext_ros.workers.inference_thread import InferenceThread
from eomt_ext_ros.workers.visualisation import VisualisationWorker


class Session:
    """Cameras, a model, and the threads that process images: all that the node has while it is configured.

    An image that comes in is queued; the inference thread takes the newest of all cameras and publishes what programs
    read of them; a visualisation worker draws what people look at, beside the next batch. The executor's thread calls
    everything else, :meth:`load` first.

    Args:
        node: whose topics the cameras have.
        settings: of the node.
        statistics: of each camera of the settings.
        load_engine: loads the engine of a configuration; called in the inference thread.

    Attributes:
        cameras: by name.
        enabled: whether images are processed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Settings,
        statistics: Mapping[str, CameraStatistics],
        load_engine: Callable[[NodeConfig], Engine],
    ) -> None:
        transport = settings.node.image_transport
        self._transforms = Transforms(node)
        self.cameras = {name: Camera(node, transport, self._transforms, statistics[name]) for name in settings.cameras}
        self.enabled = True
        self._settings, self._load_engine = settings, load_engine
        self._reports = ImageReports(ThrottledLog(node))
        self._drift_watches = DriftWatches()
        self._context: BatchContext | None = None  # until it is loaded
        self._context_lock = threading.Lock()
        self._reload_job: Future[str] | None = None  # the last one, done or not
        self._visualisation = VisualisationWorker(max(1, len(self.cameras)))
        self._thread = InferenceThread(self.process)

    def load(self, wait: Callable[[Future[Engine]], Engine]) -> None:
        """Load the model and advertise the outputs.

        Args:
            wait: gives the result of a job of the inference thread.

        Raises:
            ConfigError: if the model does not go with the settings.
            Exception: what loading the engine raises.
        """
        engine = wait(self._thread.call(lambda: self._load_engine(self._settings.node)))
        self._use(validated_context(Inference(engine), self._settings))
        for camera in self.cameras.values():
            camera.advertise()

    # -- the path of an image -----------------------------------------------------------------------------------------

    def on_image(self, camera: str, msg: Any) -> None:
        """Queue an image message; the callback of the subscription to images."""
        statistics = self.cameras[camera].statistics
        statistics.received()
        if not self.enabled:
            statistics.skipped("the node was disabled")
        elif self._thread.put(camera, msg):
            statistics.dropped()

    def process(self, batch: Mapping[str, Any]) -> Mapping[str, float]:
        """Publish the outputs of image messages, by camera; gives for how many seconds which cameras back off.

        An image that is rejected, or whose inference fails, has no output at all: it is counted and logged.
        """
        context, started_s = self.context, time.monotonic()
        images, visualisations = dict[str, CameraImage](), list[Visualisations | None]()
        for name, msg in batch.items():
            with self._reports.catching(self.cameras[name], "input"):
                image = self._decode(self.cameras[name], msg, context, started_s)
                if image is not None:
                    images[name] = image
        for name in [name for name, image in images.items() if "inference" not in image.needs]:
            context.inference.forget_failure(name)
            with self._reports.catching(self.cameras[name], "output"):
                publish(images.pop(name), None, context, self._reports)
        try:
            pixels_rgb = {name: image.pixels_rgb for name, image in images.items()}
            region = context.config.obstacles.region
            semantic = {name for name, image in images.items() if image.needs_semantic(region)}
            for outcomes in context.inference.infer(pixels_rgb, context.config.engine, semantic=semantic):
                for name, outcome in outcomes.items():
                    image = images.pop(name)
                    if isinstance(outcome, Exception):
                        self._reports.failed(image.camera, "inference", outcome)
                        continue
                    self._drift_watches.watch(image, outcome, context)
                    with self._reports.catching(image.camera, "output"):
                        visualisations.append(publish(image, outcome, context, self._reports))
        except Exception as error:
            for image in images.values():
                self._reports.failed(image.camera, "inference", error)
        for each in filter(None, visualisations):  # last, as it may wait for those before it
            self._visualisation.submit(draw_and_publish, each, self._reports)
        return context.inference.backoffs_s

    def _decode(self, camera: Camera, msg: Any, context: BatchContext, started_s: float) -> CameraImage | None:
        """Decode and judge a message if there is anything to publish of it; count it as skipped if there is not."""
        outputs = camera.subscribed(context.config.outputs)
        withheld, why_not = set[str](), ""
        if not context.engine.has_semantic and any("semantic" in output.needs for output in outputs):
            why_not = self._reports.without_semantic()
            withheld = {output.name for output in outputs if "semantic" in output.needs}
            outputs = tuple(output for output in outputs if output.name not in withheld)
        why_not = why_not or ("" if outputs else camera.why_unsubscribed(context.config.outputs))
        if not outputs and not camera.wants_health:
            camera.statistics.skipped(why_not)
            return None
        image = decoded(camera, msg, outputs, started_s)
        judge_pixels(image, context.config.health, self._reports)
        if not outputs:
            camera.statistics.skipped(why_not)
            return None
        image.withheld |= withheld
        self._reports.colours(camera, msg)
        return image

    # -- model and settings -------------------------------------------------------------------------------------------

    @property
    def context(self) -> BatchContext:
        """What the next batch runs under."""
        assert self._context is not None, "a session is loaded before it is used"
        return self._context

    def apply(self, settings: Settings) -> None:
        """Run the next batch under other settings.

        Raises:
            ConfigError: if the model does not go with them; then all stays as it was.
        """
        with self._context_lock:  # the model may change at the same time
            threshold = self.context.threshold
            self._use(validated_context(self.context.inference, settings))
        if self.context.threshold != threshold:
            self.publish_label_info()

    def use(self, inference: Inference) -> None:
        """Run the next batch through another model.

        Raises:
            ConfigError: if it does not go with the settings; then the one in use stays.
        """
        with self._context_lock:  # the settings may have changed while it was loaded
            self._use(validated_context(inference, self.context.settings))
        self._reports.with_another_model()
        self._thread.end_backoffs()
        self.publish_label_info()

    def begin_reload(self) -> Future[str]:
        """Load the checkpoint that the settings name, in the inference thread; gives its name when that is done.

        If that fails, the model in use stays.
        """
        self._reload_job = self._thread.call(self._reload)
        return self._reload_job

    @property
    def is_reloading(self) -> bool:
        """Whether a checkpoint is being loaded in the place of the one in use."""
        return self._reload_job is not None and not self._reload_job.done()

    def describe(self) -> dict[str, str]:
        """Describe the model, and what memory allows it; empty until it is loaded."""
        context = self._context
        if context is None:
            return {}
        return context.inference.describe(context.config.engine) | {"region": describe_region(context.config.obstacles)}

    @property
    def failures(self) -> dict[str, Exception]:
        """By camera, why its last image was not inferred."""
        return {} if self._context is None else self._context.inference.failures

    def publish_health(self) -> None:
        """Latch of each camera that none of its images was judged yet."""
        for camera in self.cameras.values():
            camera.publish_health(None)

    def publish_label_info(self) -> None:
        """Latch the names of the semantic classes."""
        for camera in self.cameras.values():
            camera.publish_label_info(self.context.engine.class_names, self.context.threshold)

    def _reload(self) -> str:
        config = self.context.config
        try:
            self.use(Inference(self._load_engine(config)))
        except Exception as error:
            clear_traceback_locals(error)  # they hold what there is of the new model
            free_model_memory()
            raise
        gc.collect()  # the new model has its CUDA graphs, which freeing memory would give up
        return config.checkpoint

    def _use(self, context: BatchContext) -> None:
        self._context = context
        self._thread.limit(context.config.max_batch_cameras, context.config.least_period_s)

    # -- from activation to the end -----------------------------------------------------------------------------------

    def subscribe(self) -> list[str]:
        """Receive images from now on; gives their topics."""
        self.context.inference.forget_failures()
        self._thread.end_backoffs()
        try:
            for camera in self.cameras.values():
                camera.subscribe(functools.partial(self.on_image, camera.name))
        except Exception:
            self.unsubscribe()
            raise
        return [camera.subscriptions[0].topic_name for camera in self.cameras.values()]

    def unsubscribe(self) -> None:
        """Receive no more, and drop what waits."""
        for camera in self.cameras.values():
            camera.unsubscribe()
        self._drop_waiting()

    def enable(self, enabled: bool) -> None:
        """Process images, or do not; what waits is dropped then."""
        self.enabled = enabled
        if not enabled:
            self._drop_waiting()

    def drain(self, timeout_s: float) -> bool:
        """Wait for the batch that is processed, and for its visualisations; false if that takes longer."""
        return self._thread.drain(timeout_s) and self._visualisation.drain(timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """End the threads when they have finished; false if that takes longer than the timeout."""
        deadline_s = time.monotonic() + timeout_s
        if not self._thread.stop(timeout_s):
            return False  # its batch may still have visualisations to draw
        return self._visualisation.stop(max(0.0, deadline_s - time.monotonic()))

    def withdraw(self) -> None:
        """Destroy the publishers, and listen to tf no more."""
        self._transforms.close()
        for camera in self.cameras.values():
            camera.withdraw()

    @property
    def is_inferring(self) -> bool:
        """Whether the inference thread has not ended."""
        return self._thread.is_alive

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left that a thread is doing."""
        return not self._thread.is_alive and self._visualisation.drain(0.0)

    @property
    def processing_for_s(self) -> float:
        """For how long the present batch has been processed, 0 if there is none."""
        return self._thread.batch_for_s

    def _drop_waiting(self) -> None:
        for camera in self._thread.clear():
            self.cameras[camera].statistics.dropped()
