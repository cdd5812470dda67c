"""The lifecycle node: camera images in, anomaly probabilities and obstacles out."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import cv2
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.signals import uninstall_signal_handlers

from eomt_ext_core import ConfigError
from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.diagnostics.publisher import Diagnostics
from eomt_ext_ros.diagnostics.reports import Reports, explained, in_brief
from eomt_ext_ros.diagnostics.snapshot import observe
from eomt_ext_ros.inference.engine import Engine, EngineFactory, load_engine
from eomt_ext_ros.inference.inference import Inference
from eomt_ext_ros.inference.memory import free_gpu_memory
from eomt_ext_ros.inference.tracebacks import clear_traceback_locals
from eomt_ext_ros.node.callbacks import GuardedNode
from eomt_ext_ros.node.services import Services
from eomt_ext_ros.node.transitions import reported
from eomt_ext_ros.node.waiting import context_ends, finish_within, result_of
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.parameter_fields import refuse_fixed_changes
from eomt_ext_ros.parameters.settings import declare_settings, read_settings
from eomt_ext_ros.pipeline.camera import Camera
from eomt_ext_ros.pipeline.pipeline import Pipeline
from eomt_ext_ros.process.allocator import keep_freed_images
from eomt_ext_ros.workers.inference_thread import InferenceThread

STOP_TIMEOUT_S = 30.0
EXIT_TIMEOUT_S = 1.0  # the process is to end within two seconds
WAKE_PERIOD_S = 0.5


class AnomalyNode(GuardedNode):
    """Find in the images of each camera what the model does not know.

    For each camera it subscribes to ``~/<camera>/input/image`` (or ``…/image/compressed``) and
    ``~/<camera>/input/camera_info``, and publishes ``~/<camera>/output/probability`` (32FC1 in [0, 1]), ``mask``
    (mono8, 0 or 255), ``overlay`` and ``heatmap`` (rgb8), ``semantic`` (mono8 class ids), ``obstacles`` and
    ``camera_info``, each with the header of the image that it was computed from. A single camera has no name in its
    topics. Only the newest image of a camera is worked on, only what somebody subscribes to is computed, and the images
    of all cameras that wait go through the model together.

    The executor's thread only stores what comes in; the inference thread, which lives from configure to cleanup, alone
    touches the model. A third one draws overlay and heatmap, beside the next inference.

    Args:
        engine_factory: makes the engine from the configuration, in the inference thread.
        kwargs: of the ROS node.
    """

    def __init__(self, *, engine_factory: EngineFactory = load_engine, **kwargs: Any) -> None:
        super().__init__("eomt_ext", **kwargs)
        self.statistics: dict[str, CameraStatistics] = {}
        self.cameras: dict[str, Camera] = {}
        self.enabled = True
        self.error = ""  # why the node could not be configured
        self._engine_factory = engine_factory
        self._thread: InferenceThread[Any] | None = None
        self._pipeline: Pipeline | None = None
        self._reloading: Future[str] | None = None  # the last reload, done or not
        # Last, as it may raise: the context then destroys the node, which must be able to.
        self.settings = declare_settings(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.diagnostics = Diagnostics(self, lambda: (observe(self), self.config.diagnostics))
        Services(self)

    @property
    def config(self) -> NodeConfig:
        """Settings of the node itself."""
        return self.settings.node

    @property
    def inference(self) -> Inference | None:
        """Of the model in use, where there is one."""
        return None if self._pipeline is None else self._pipeline.inference

    @property
    def state(self) -> str:
        """Of the lifecycle: ``unconfigured``, ``inactive``, ``active``, ``finalized``, or a transition."""
        return str(self._state_machine.current_state[1])  # rclpy tells it in no public way

    @property
    def counts(self) -> Counter[str]:
        """What became of the images of all cameras since the node began, named as ``CameraStatistics`` does."""
        return sum((statistics.counts for statistics in self.statistics.values()), Counter())

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    @reported(TransitionCallbackReturn.FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and advertise the outputs."""
        self.enabled, self.error = True, ""
        self.forget_failing_callbacks()
        try:
            self._configure()
        except BaseException as error:
            self.error = f"not configured: {in_brief(error)}"
            clear_traceback_locals(error)  # which hold what there is of the model
            self._release()
            raise
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self.settings = settings = declare_settings(self)
        config = settings.node
        self.cameras = {
            name: Camera(self, config.image_transport, self.statistics_of(name)) for name in settings.cameras
        }
        self._thread = InferenceThread(self._answer)
        job = self._thread.call(lambda: self._load(config))
        engine = result_of(job, self.context, self.diagnostics.publish_when_due)
        self._pipeline = Pipeline(self.cameras, Inference(engine), settings, Reports(self))
        self._thread.limit(config.max_batch_cameras, config.least_period_s)
        for camera in self.cameras.values():
            camera.advertise()

    @reported(TransitionCallbackReturn.FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras."""
        assert self._thread is not None, "a node that is activated is configured"
        assert self._pipeline is not None, "a node that is activated is configured"
        self._pipeline.inference.forget_failures()
        self._thread.end_rests()
        try:
            for camera in self.cameras.values():
                camera.subscribe(functools.partial(self._on_image, camera.name))
        except Exception:
            self._unsubscribe()
            raise
        topics = ", ".join(camera.subscriptions[0].topic_name for camera in self.cameras.values())
        self.get_logger().info(f"waiting for images on {topics}")
        result = super().on_activate(state)
        self._tell_classes()
        return result

    @reported(TransitionCallbackReturn.ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish what is being done; not while a checkpoint is loaded, which may take long."""
        if self._is_reloading("deactivate"):
            return TransitionCallbackReturn.FAILURE
        self._unsubscribe()
        self._forget_waiting()
        self._finish(self._drain)
        return super().on_deactivate(state)

    @reported(TransitionCallbackReturn.ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the outputs; not while a checkpoint is loaded."""
        if self._is_reloading("clean up"):
            return TransitionCallbackReturn.FAILURE
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @reported(TransitionCallbackReturn.ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @reported(TransitionCallbackReturn.FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything up, so that the node can be configured anew."""
        try:
            self._release()
        except Exception as error:
            self.error = f"{in_brief(error)}: restart the process"
            raise
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configure and activate; where that fails the node stays as it is and can be set right and started by hand."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        elif self.context.ok():
            self.get_logger().warning("not started: set the parameters right, then configure and activate this node")

    def destroy_node(self) -> None:
        """End the node's threads, or leave them behind where that takes too long, before the node goes."""
        self._unsubscribe()
        if not self._stop(EXIT_TIMEOUT_S) and self._pipeline is not None:
            self._pipeline.picture_thread.stop(0.0)  # it ends when it can, and takes nothing more from inference
        super().destroy_node()

    @property
    def is_inferring(self) -> bool:
        """Whether the inference thread is there."""
        return self._thread is not None and self._thread.is_alive

    @property
    def is_drawing(self) -> bool:
        """Whether the thread that draws pictures is there."""
        return self._pipeline is not None and self._pipeline.picture_thread.is_alive

    @property
    def inferring_for_s(self) -> float:
        """For how long the batch that is inferred has been, 0 where none is."""
        return 0.0 if self._thread is None else self._thread.batch_for_s

    def _finish(self, finish: Callable[[float], bool]) -> None:
        """Wait for the threads, in the executor's."""
        finish_within(STOP_TIMEOUT_S, finish, self.context, self.diagnostics.publish_when_due)

    def _drain(self, timeout_s: float) -> bool:
        """Wait for the batch that is inferred, and then for the pictures."""
        assert self._thread is not None, "a node that is active is configured"
        assert self._pipeline is not None, "a node that is active is configured"
        return self._thread.drain(timeout_s) and self._pipeline.picture_thread.drain(timeout_s)

    def _stop(self, timeout_s: float) -> bool:
        """End the inference thread, and then the one that draws; false where that takes longer than the timeout."""
        deadline_s = time.monotonic() + timeout_s
        if self._thread is not None and not self._thread.stop(timeout_s):
            return False
        left_s = max(0.0, deadline_s - time.monotonic())
        return self._pipeline is None or self._pipeline.picture_thread.stop(left_s)

    def _is_reloading(self, attempt: str) -> bool:
        """Whether ``~/reload`` stands in the way of a transition, which the log says then."""
        if self._reloading is None or self._reloading.done():
            return False
        self.get_logger().error(f"cannot {attempt} while ~/reload loads a checkpoint: try again when it has replied")
        return True

    def _unsubscribe(self) -> None:
        for camera in self.cameras.values():
            camera.unsubscribe()

    def statistics_of(self, camera: str) -> CameraStatistics:
        """What became of the images of a camera, also while the node is not configured."""
        return self.statistics.setdefault(camera, CameraStatistics(camera))

    def _tell_classes(self) -> None:
        if self._pipeline is not None:
            for camera in self.cameras.values():
                camera.publish_label_info(self._pipeline.inference.engine.class_names, self._pipeline.threshold)

    def _forget_waiting(self) -> None:
        for camera in self._thread.clear() if self._thread is not None else ():
            self.statistics[camera].dropped()

    def _release(self) -> None:
        self._unsubscribe()
        self._forget_waiting()
        self._finish(self._stop)
        for camera in self.cameras.values():
            camera.withdraw()
        self._thread, self._pipeline, self.cameras = None, None, {}
        gc.collect()  # a model lies in reference cycles, and would stay in memory beside the next one
        free_gpu_memory()

    # -- the inference thread -----------------------------------------------------------------------------------------

    def _load(self, config: NodeConfig) -> Engine:
        started = time.monotonic()
        engine = self._engine_factory(config)
        facts = ", ".join(f"{name} {value}" for name, value in engine.describe(config.engine).items())
        self.get_logger().info(f"loaded {config.checkpoint} in {time.monotonic() - started:.1f} s: {facts}")
        if config.checkpoint == "demo":
            self.get_logger().warning(
                "this is the demonstration model, trained on drawn scenes: not for use on a vehicle"
            )
        return engine

    def _reload(self) -> str:
        assert self._pipeline is not None, "a configured node has a pipeline"
        assert self._thread is not None, "this is it"
        config = self.config
        try:
            self._pipeline.use(Inference(self._load(config)))
        except Exception as error:
            clear_traceback_locals(error)  # which hold what there is of the new model
            gc.collect()
            free_gpu_memory()
            raise
        self._thread.end_rests()
        gc.collect()  # as in _release; the new model has its CUDA graphs, which freeing memory would give up
        self._tell_classes()
        return config.checkpoint

    def _answer(self, batch: dict[str, Any]) -> dict[str, float]:
        assert self._pipeline is not None, "a node with subscriptions has a pipeline"
        return self._pipeline.answer(batch)

    # -- the executor's thread ----------------------------------------------------------------------------------------

    def _on_image(self, camera: str, msg: Any) -> None:
        statistics = self.statistics[camera]
        statistics.received()
        if not self.enabled or self._thread is None:
            statistics.skipped("the node was disabled")
        elif self._thread.put(camera, msg):
            statistics.dropped()

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            settings = read_settings(self, parameters)
            if self._pipeline is not None:
                refuse_fixed_changes(self.config, settings.node)
                threshold = self._pipeline.threshold
                self._pipeline.apply(settings)
                if self._pipeline.threshold != threshold:
                    self._tell_classes()
        except (ConfigError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._thread is not None:
            self._thread.limit(settings.node.max_batch_cameras, settings.node.least_period_s)
        self.settings = settings
        return SetParametersResult(successful=True)

    def enable(self, enabled: bool) -> None:
        """Answer images, or let them go; what waits is let go at once."""
        self.enabled = enabled
        if not enabled:
            self._forget_waiting()

    def begin_reload(self) -> Future[str] | None:
        """Let the inference thread load the checkpoint; its name when that is done. None where not configured."""
        if self._thread is None:
            return None
        self._reloading = self._thread.call(self._reload)
        return self._reloading


def prepare_process() -> None:
    """Set up a process of the node's own for images."""
    keep_freed_images()
    cv2.setNumThreads(1)  # more would wait for the cores that inference and publishing use


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; returns the exit code."""
    prepare_process()
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node: AnomalyNode | None = None
    code = 0
    try:
        node = AnomalyNode()
        executor.add_node(node)
        if node.config.autostart:
            node.start()
        # Not spin(): on SIGTERM rclpy wakes it before it ends the context, and it may go back to sleep for good.
        while rclpy.ok():
            executor.spin_once(timeout_sec=WAKE_PERIOD_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ConfigError, ParameterException) as error:
        get_logger("eomt_ext").fatal(f"cannot start: {error}")
        code = 1
    except Exception as error:
        if not context_ends(
            rclpy.ok
        ):  # else it ended amid a callback: ROS refused what that did, or a signal interrupted it
            get_logger("eomt_ext").fatal(f"ended by an error: {explained(error)}")
            code = 1
    finally:
        try:
            _ignore_signals()
            executor.shutdown()
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
        finally:
            if node is not None and (node.is_inferring or node.is_drawing):
                # Python would go on to tear down what the threads still run in, which ends in a crash or not at all.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return code


def _ignore_signals() -> None:
    """Let nothing interrupt the end of the process, which takes a second or two."""
    uninstall_signal_handlers()  # of ROS, which would else put Python's back in the end
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
