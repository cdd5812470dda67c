"""What the node has from configure to cleanup."""

from __future__ import annotations

import functools
import gc
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode

from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.diagnostics.throttled_log import ThrottledLog, explained
from eomt_ext_ros.inference.engine import Engine, is_warm, warm_up
from eomt_ext_ros.inference.inference import Flight, Inference
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

_NOT_IN_FORCE = "new parameters are not in force"
_NOT_PREPARED = "the model is not prepared for semantic classes, and the first images with them take longer"
_PREPARING_SEMANTIC = "the model is prepared for semantic classes, which it was not asked for before"


@dataclass(frozen=True)
class StartedBatch:
    """A batch that is not published yet.

    Attributes:
        context: that it is processed under, whatever changes meanwhile.
        images: by camera.
        flight: those of them that need inference; or why they were not submitted.
    """

    context: BatchContext
    images: Mapping[str, CameraImage]
    flight: Flight | Exception


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
        self._log = ThrottledLog(node)
        self._reports = ImageReports(self._log)
        self._drift_watches = DriftWatches()
        self._context: BatchContext | None = None  # until it is loaded
        self._context_lock = threading.Lock()
        self._reload_job: Future[str] | None = None  # the last one, done or not
        self._semantic_job: Future[None] | None = None  # for the first image that wants semantic classes
        self._visualisation = VisualisationWorker(max(1, len(self.cameras)))
        self._thread = InferenceThread(self.begin, self.finish, self._begin_beside_s)

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

    def begin(self, batch: Mapping[str, Any]) -> StartedBatch:
        """Decode image messages, by camera, and submit to the model what needs it."""
        context, started_s = self.context, time.monotonic()
        images = dict[str, CameraImage]()
        for name, msg in batch.items():
            with self._reports.catching(self.cameras[name], "input"):
                image = self._decode(self.cameras[name], msg, context, started_s)
                if image is not None:
                    images[name] = image
        inferred = {name: image for name, image in images.items() if "inference" in image.needs}
        for name in images.keys() - inferred.keys():
            context.inference.forget_failure(name)
        flight: Flight | Exception
        try:
            pixels_rgb = {name: image.pixels_rgb for name, image in inferred.items()}
            parts = {name: image.parts(context.config) for name, image in inferred.items()}
            flight = context.inference.submit(pixels_rgb, context.config.engine, parts, started_s)
        except Exception as error:
            flight = error
        return StartedBatch(context, images, flight)

    def finish(self, started: StartedBatch) -> Mapping[str, float]:
        """Publish the outputs of a batch; gives for how many seconds which cameras back off.

        An image that is rejected, or whose inference fails, has no output at all: it is counted and logged.
        """
        context, visualisations = started.context, list[Visualisations | None]()
        images = {name: image for name, image in started.images.items() if self._is_shown(image, context)}
        for image in [images.pop(name) for name in list(images) if "inference" not in images[name].needs]:
            with self._reports.catching(image.camera, "output", image.started_s):
                publish(image, None, context, self._reports)
        try:
            if isinstance(started.flight, Exception):
                raise started.flight
            for outcomes in context.inference.collect(started.flight):
                for name, outcome in outcomes.items():
                    if name not in images:
                        continue  # its camera could not be judged
                    image = images.pop(name)
                    if isinstance(outcome, Exception):
                        self._reports.failed(image.camera, "inference", outcome, image.started_s)
                        continue
                    self._drift_watches.watch(image, outcome, context)
                    with self._reports.catching(image.camera, "output", image.started_s):
                        visualisations.append(publish(image, outcome, context, self._reports))
        except Exception as error:
            for image in images.values():
                self._reports.failed(image.camera, "inference", error, image.started_s)
        for each in filter(None, visualisations):  # last, as it may wait for those before it
            self._visualisation.submit(draw_and_publish, each, self._reports)
        return context.inference.backoffs_s

    def _begin_beside_s(self, in_flight: int) -> float:
        """When another batch may begin beside those in flight, on the steady clock; infinite if it may not."""
        context = self.context
        most = context.config.in_flight or context.engine.most_in_flight
        return context.inference.overlap_at_s if in_flight < most else math.inf

    def _decode(self, camera: Camera, msg: Any, context: BatchContext, started_s: float) -> CameraImage | None:
        """Decode a message if there is anything to publish of it; count it as skipped if there is not."""
        outputs = camera.subscribed(context.config.outputs)
        withheld, why_not = {output.name for output in outputs if "semantic" in output.needs}, ""
        if withheld:
            why_not = self._why_no_semantic(context)
            withheld = withheld if why_not else set()
            outputs = tuple(output for output in outputs if output.name not in withheld)
        why_not = why_not or ("" if outputs else camera.why_unsubscribed(context.config.outputs))
        if not outputs and not camera.wants_health:
            camera.statistics.skipped(why_not)
            return None
        image = decoded(camera, msg, outputs, started_s)
        image.withheld |= withheld
        image.why_not = why_not
        if outputs:
            self._reports.colours(camera, msg)
        return image

    def _why_no_semantic(self, context: BatchContext) -> str:
        """Say why an image goes without its semantic classes; empty if it need not.

        The first one that wants them has the model prepared for them, before the next batch, and is not late for it.
        """
        if not context.engine.has_semantic:
            return self._reports.without_semantic()
        if context.engine.is_warm(context.config.engine, semantic=True):
            return ""
        if self._semantic_job is None:
            self._semantic_job = self._thread.call(self._warm_up)
            self._semantic_job.add_done_callback(functools.partial(self._report_warm_up, _NOT_PREPARED))
        return "" if self._semantic_job.done() else _PREPARING_SEMANTIC

    def _is_shown(self, image: CameraImage, context: BatchContext) -> bool:
        """Judge the camera by an image; false, and counted, if nothing of the image can be published."""
        is_judged = False
        with self._reports.catching(image.camera, "input", image.started_s):
            judge_pixels(image, context.config.health, self._reports)
            is_judged = True
        if is_judged and not image.outputs:
            image.camera.statistics.skipped(image.why_not, image.taken_s)
        return is_judged and bool(image.outputs)

    # -- model and settings -------------------------------------------------------------------------------------------

    @property
    def context(self) -> BatchContext:
        """What the next batch runs under."""
        assert self._context is not None, "a session is loaded before it is used"
        return self._context

    def apply(self, settings: Settings) -> None:
        """Run batches under other settings from now on, or as soon as the model is warm for them.

        The inference thread captures or compiles what they need, between two batches. If memory was freed in the last
        minutes, images do that instead, as they need it.

        Raises:
            ConfigError: if the model does not go with them; then all stays as it was.
        """
        with self._context_lock:  # the model may change at the same time
            context = validated_context(self.context.inference, settings)
            self._settings = settings
            is_cold = not self._is_warm(self.context.config)
            is_short = is_cold and context.inference.was_freed_lately  # and would be for another warm-up
            if is_short or self._is_warm(settings.node):
                self._take_up(context)
            else:
                job = self._thread.call(self._warm_up)
                job.add_done_callback(functools.partial(self._report_warm_up, _NOT_IN_FORCE))

    def use(self, inference: Inference) -> None:
        """Run the next batch through another model.

        Raises:
            ConfigError: if it does not go with the settings; then the one in use stays.
        """
        with self._context_lock:  # the settings may have changed while it was loaded
            self._use(validated_context(inference, self._settings))
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
        config = self._settings.node
        try:
            engine = self._load_engine(config)
            self._make_warm(engine)
            self.use(Inference(engine))
        except Exception as error:
            clear_traceback_locals(error)  # they hold what there is of the new model
            free_model_memory()
            raise
        gc.collect()  # the new model has its CUDA graphs, which freeing memory would give up
        return config.checkpoint

    def _warm_up(self) -> None:
        """Make the model warm for the settings, and take them up."""
        self._make_warm(self.context.engine)
        with self._context_lock:
            self._take_up(validated_context(self.context.inference, self._settings))

    def _is_warm(self, config: NodeConfig) -> bool:
        return is_warm(self.context.engine, config, semantic=self._semantic_job is not None)

    def _make_warm(self, engine: Engine) -> None:
        """Warm a model up for the settings of now, and for images like the last ones."""
        images_hw, semantic = self.context.engine.images_hw, self._semantic_job is not None
        warm_up(engine, self._settings.node, semantic=semantic, images_hw=images_hw)

    def _report_warm_up(self, consequence: str, job: Future[None]) -> None:
        if not job.cancelled() and (error := job.exception()) is not None:
            self._log.error(consequence, f"{consequence}: {explained(error)}")

    def _take_up(self, context: BatchContext) -> None:
        threshold = self.context.threshold
        self._use(context)
        if context.threshold != threshold:
            self.publish_label_info()

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
