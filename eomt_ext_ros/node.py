"""The lifecycle node: camera images in, anomaly probabilities out."""

from __future__ import annotations

import copy
import functools
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image

from eomt_ext_core import AnomalyEngine, AnomalyFrame, ConfigError, EomtExtError, ImageError, load_model
from eomt_ext_core.visualization import heatmap, overlay
from eomt_ext_ros.images import to_image_msg, to_rgb
from eomt_ext_ros.newest_only import NewestOnlyWorker
from eomt_ext_ros.parameters import LIVE_PARAMETERS, changed_values, declare_parameters, read_parameters

OUTPUTS = {"probability": Image, "mask": Image, "overlay": Image, "heatmap": Image, "camera_info": CameraInfo}

REPORT_PERIOD_S = 5.0
STOP_TIMEOUT_S = 30.0
WAKE_PERIOD_S = 0.5

Transition = Callable[["AnomalyNode", LifecycleState], TransitionCallbackReturn]


def _reported(otherwise: TransitionCallbackReturn) -> Callable[[Transition], Transition]:
    """Log what a transition raises (rclpy swallows it) and return ``otherwise``."""

    def decorate(transition: Transition) -> Transition:
        @functools.wraps(transition)
        def guarded(node: AnomalyNode, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return transition(node, state)
            except Exception as error:
                if node.context.ok():  # or the process is ending, and ROS refuses everything
                    name = transition.__name__.removeprefix("on_")
                    node.get_logger().error(f"{name} failed: {_explained(error)}")
            return otherwise

        return guarded

    return decorate


def _explained(error: Exception) -> str:
    """The message where it is one of ours and says it all, else the traceback."""
    return str(error) if isinstance(error, EomtExtError) else traceback.format_exc()


def _newest_only(reliability: QoSReliabilityPolicy) -> dict[str, Any]:
    """Keywords for a topic; rclpy writes a topic's overrides into the profile, so that none can be shared."""
    return {
        "qos_profile": QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=reliability),
        "qos_overriding_options": QoSOverridingOptions.with_default_policies(),
    }


class AnomalyNode(LifecycleNode):
    """Find in each camera image what the model does not know.

    Subscribes to ``~/input/image`` and ``~/input/camera_info``; publishes ``~/output/probability`` (32FC1 in [0, 1]),
    ``~/output/mask`` (mono8, 0 or 255), ``~/output/overlay`` and ``~/output/heatmap`` (rgb8) and
    ``~/output/camera_info``, each with the header of the image that it was computed from. Only the newest image is
    worked on, and only what somebody subscribes to is computed.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("eomt_ext", **kwargs)
        self.counts: Counter[str] = Counter()  # received, published, rejected/<reason>, failed
        self._counts_lock = threading.Lock()
        self._reported_at: dict[str, float] = {}
        self._engine: AnomalyEngine | None = None
        self._worker: NewestOnlyWorker[Image] | None = None
        self._camera_info: CameraInfo | None = None
        self._outputs: dict[str, Any] = {}
        self._subscriptions_here: list[Any] = []
        # Last, as it may raise: the context then destroys the node, which must be able to.
        declare_parameters(self)
        self.config = read_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    @_reported(TransitionCallbackReturn.FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and advertise the outputs."""
        config = read_parameters(self)
        started = time.monotonic()
        model = load_model(config.checkpoint, head=config.head or None)
        engine = AnomalyEngine(model, config.engine)
        self.get_logger().info(
            f"loaded {config.checkpoint} in {time.monotonic() - started:.1f} s: {model.config.backbone}, crop "
            f"{model.config.crop_hw[1]}×{model.config.crop_hw[0]}, score {config.engine.score}, {engine.precision} on "
            f"{engine.device}"
        )
        if config.checkpoint == "demo":
            self.get_logger().warning(
                "this is the demonstration model, trained on drawn scenes: not for use on a vehicle"
            )
        try:
            for name, kind in OUTPUTS.items():
                self._outputs[name] = self.create_lifecycle_publisher(
                    kind, f"~/output/{name}", **_newest_only(QoSReliabilityPolicy.RELIABLE)
                )
        except Exception:
            self._release()
            raise
        self.config, self._engine = config, engine
        return TransitionCallbackReturn.SUCCESS

    @_reported(TransitionCallbackReturn.FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread and subscribe to the camera."""
        self._worker = NewestOnlyWorker(self._process, "inference")
        try:
            self._subscribe(Image, "~/input/image", self._on_image)
            self._subscribe(CameraInfo, "~/input/camera_info", self._on_camera_info)
        except Exception:
            self._stop()
            raise
        self.get_logger().info(f"waiting for images on {self._subscriptions_here[0].topic_name}")
        return super().on_activate(state)

    @_reported(TransitionCallbackReturn.ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and end the inference thread."""
        self._stop()
        return super().on_deactivate(state)

    @_reported(TransitionCallbackReturn.ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the outputs."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_reported(TransitionCallbackReturn.ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End, from whatever state."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_reported(TransitionCallbackReturn.FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything up, so that the node can be configured anew."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configure and activate; where that fails the node stays as it is and can be set right and started by hand."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        elif self.context.ok():
            self.get_logger().warning("not started: set the parameters right, then configure and activate this node")

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        qos = _newest_only(QoSReliabilityPolicy.BEST_EFFORT)
        self._subscriptions_here.append(self.create_subscription(kind, topic, callback, **qos))

    def _stop(self) -> None:
        while self._subscriptions_here:
            self.destroy_subscription(self._subscriptions_here.pop())
        self._camera_info = None
        if self._worker is not None and not self._worker.stop(STOP_TIMEOUT_S):
            raise RuntimeError(f"the inference thread did not end within {STOP_TIMEOUT_S:.0f} s")
        self._worker = None

    def _release(self) -> None:
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()
        self._engine = None

    def destroy_node(self) -> None:
        """End the inference thread before the node goes."""
        try:
            self._stop()
        finally:
            super().destroy_node()

    # -- parameters ---------------------------------------------------------------------------------------------------

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = changed_values(parameters)
        try:
            config = read_parameters(self, changed)
        except (ConfigError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        fixed = [
            name
            for name, value in changed.items()
            if name not in LIVE_PARAMETERS and value != self.get_parameter(name).value
        ]
        if fixed and self._engine is not None:
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(fixed)} can change only while the node is unconfigured: clean it up first",
            )
        if self._engine is not None:
            self._engine.config = replace(self._engine.config, threshold=config.engine.threshold)
        self.config = config
        return SetParametersResult(successful=True)

    # -- images -------------------------------------------------------------------------------------------------------

    def _on_image(self, msg: Image) -> None:
        self._count("received")
        if self._worker is not None:
            self._worker.put(msg)

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self._camera_info = msg

    def _process(self, msg: Image) -> None:
        """Work on one image; runs in the inference thread, the only one that touches the model."""
        try:
            wanted = {name for name, publisher in self._outputs.items() if publisher.get_subscription_count() > 0}
            if wanted - {"camera_info"}:
                image_rgb = to_rgb(msg)
                assert self._engine is not None, "an active node has an engine"
                self._publish(msg.header, image_rgb, self._engine.infer(image_rgb), wanted)
            if "camera_info" in wanted:
                self._publish_camera_info(msg.header)
        except ImageError as error:
            self._count(f"rejected/{error.reason}")
            self._report("rejected", f"image rejected: {error}")
        except Exception as error:
            if self.context.ok():  # or the process is ending, and ROS takes no more messages
                self._count("failed")
                self._report("failed", f"inference failed: {_explained(error)}")
        else:
            if wanted:
                self._count("published")

    def _publish(self, header: Any, image_rgb: Any, frame: AnomalyFrame, wanted: set[str]) -> None:
        renderers: dict[str, Callable[[], tuple[Any, str]]] = {
            "probability": lambda: (frame.probability, "32FC1"),
            "mask": lambda: (frame.mask.view("uint8") * 255, "mono8"),
            "heatmap": lambda: (heatmap(frame.probability), "rgb8"),
            "overlay": lambda: (
                overlay(image_rgb, frame.probability, frame.mask, self.config.overlay_opacity),
                "rgb8",
            ),
        }
        for name, render in renderers.items():
            if name in wanted:
                self._outputs[name].publish(to_image_msg(*render(), header))

    def _publish_camera_info(self, header: Any) -> None:
        info = self._camera_info
        if info is None:
            return
        if info.header.frame_id != header.frame_id:
            self._count("camera_info of another frame")
            self._report(
                "camera_info of another frame",
                f"camera_info must be of the image's frame {header.frame_id!r} to be published with it, got "
                f"{info.header.frame_id!r}: remap ~/input/camera_info",
            )
            return
        info = copy.copy(info)  # the stored one stays as it was received
        info.header = header
        self._outputs["camera_info"].publish(info)

    # -- what an operator sees ----------------------------------------------------------------------------------------

    def _count(self, what: str) -> None:
        with self._counts_lock:
            self.counts[what] += 1

    def _report(self, kind: str, text: str) -> None:
        """Log at most once a period for each kind, on the steady clock: sim time may stand still."""
        now = time.monotonic()
        if now - self._reported_at.get(kind, float("-inf")) >= REPORT_PERIOD_S:
            self._reported_at[kind] = now
            with self._counts_lock:
                total = sum(count for name, count in self.counts.items() if name.startswith(kind))
            self.get_logger().error(f"{text} ({total} {kind} so far)")


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; returns the exit code."""
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node: AnomalyNode | None = None
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
        return 1
    finally:
        executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
