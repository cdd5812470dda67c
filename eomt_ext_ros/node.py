"""The lifecycle node: camera images in, anomaly probabilities out."""

from __future__ import annotations

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
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image

from eomt_ext_core import AnomalyEngine, AnomalyFrame, ConfigError, ImageError, load_model
from eomt_ext_core.visualization import heatmap, overlay
from eomt_ext_ros.images import to_image_msg, to_rgb
from eomt_ext_ros.newest_only import NewestOnlyWorker
from eomt_ext_ros.parameters import LIVE_PARAMETERS, changed_values, declare_parameters, read_parameters

CAMERA_QOS = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
OUTPUT_QOS = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.RELIABLE)

REPORT_PERIOD_S = 5.0
STOP_TIMEOUT_S = 30.0

Transition = Callable[["AnomalyNode", LifecycleState], TransitionCallbackReturn]


def _reported(otherwise: TransitionCallbackReturn) -> Callable[[Transition], Transition]:
    """Log what a transition raises (rclpy swallows it) and return ``otherwise``."""

    def decorate(transition: Transition) -> Transition:
        @functools.wraps(transition)
        def guarded(node: AnomalyNode, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return transition(node, state)
            except ValueError as error:  # a rule of ours or of ROS: the message says it all
                node.get_logger().error(f"{transition.__name__.removeprefix('on_')} failed: {error}")
            except Exception:
                node.get_logger().error(f"{transition.__name__.removeprefix('on_')} failed:\n{traceback.format_exc()}")
            return otherwise

        return guarded

    return decorate


class AnomalyNode(LifecycleNode):
    """Find in each camera image what the model does not know.

    Subscribes to ``~/input/image`` and ``~/input/camera_info``; publishes ``~/output/probability`` (32FC1 in [0, 1]),
    ``~/output/mask`` (mono8, 0 or 255), ``~/output/overlay`` and ``~/output/heatmap`` (rgb8) and ``~/output/camera_info``,
    each with the header of the image that it was computed from. Only the newest image is worked on, and only what
    somebody subscribes to is computed.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("eomt_ext", **kwargs)
        declare_parameters(self)
        self.config = read_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.counts: Counter[str] = Counter()  # received, published, rejected/<reason>, failed
        self._counts_lock = threading.Lock()
        self._reported_at: dict[str, float] = {}
        self._engine: AnomalyEngine | None = None
        self._worker: NewestOnlyWorker[Image] | None = None
        self._camera_info: CameraInfo | None = None
        self._outputs: dict[str, Any] = {}
        self._subscriptions_here: list[Any] = []

    # -- lifecycle ----------------------------------------------------------------------------------------------------

    @_reported(TransitionCallbackReturn.FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and advertise the outputs."""
        config = read_parameters(self)
        started = time.monotonic()
        model = load_model(config.checkpoint, head=config.head or None)
        engine = AnomalyEngine(model, config.engine)
        self.get_logger().info(
            f"loaded {config.checkpoint}: {model.config.backbone}, crop {model.config.crop_hw[1]}×{model.config.crop_hw[0]}, "
            f"score {config.engine.score}, {engine.precision} on {engine.device}, in {time.monotonic() - started:.1f} s"
        )
        if config.checkpoint == "demo":
            self.get_logger().warning("this is the demonstration model, trained on drawn scenes: not for use on a vehicle")
        for name, kind in (
            ("probability", Image),
            ("mask", Image),
            ("overlay", Image),
            ("heatmap", Image),
            ("camera_info", CameraInfo),
        ):
            self._outputs[name] = self.create_lifecycle_publisher(
                kind,
                f"~/output/{name}",
                OUTPUT_QOS,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        self.config, self._engine = config, engine
        return TransitionCallbackReturn.SUCCESS

    @_reported(TransitionCallbackReturn.FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread and subscribe to the camera."""
        result = super().on_activate(state)
        self._worker = NewestOnlyWorker(self._process, "inference")
        for kind, topic, callback in (
            (Image, "~/input/image", self._on_image),
            (CameraInfo, "~/input/camera_info", self._on_camera_info),
        ):
            self._subscriptions_here.append(
                self.create_subscription(
                    kind,
                    topic,
                    callback,
                    CAMERA_QOS,
                    qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                )
            )
        self.get_logger().info(f"waiting for images on {self._subscriptions_here[0].topic_name}")
        return result

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

    def _stop(self) -> None:
        for subscription in self._subscriptions_here:
            self.destroy_subscription(subscription)
        self._subscriptions_here.clear()
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(STOP_TIMEOUT_S):
            raise RuntimeError(f"the inference thread did not end within {STOP_TIMEOUT_S:.0f} s")
        self._camera_info = None

    def _release(self) -> None:
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()
        self._engine = None

    def destroy_node(self) -> None:
        """End the inference thread before the node goes."""
        self._stop()
        super().destroy_node()

    # -- parameters ---------------------------------------------------------------------------------------------------

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = changed_values(parameters)
        try:
            config = read_parameters(self, changed)
        except (ConfigError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        fixed = [name for name in changed if name not in LIVE_PARAMETERS]
        if fixed and self._engine is not None:
            return SetParametersResult(
                successful=False, reason=f"{', '.join(fixed)} can change only while the node is unconfigured: clean it up first"
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
        wanted = {name for name, publisher in self._outputs.items() if publisher.get_subscription_count() > 0}
        if not wanted:
            return
        try:
            image_rgb = to_rgb(msg)
            assert self._engine is not None, "an active node has an engine"
            frame = self._engine.infer(image_rgb)
            self._publish(msg, image_rgb, frame, wanted)
        except ImageError as error:
            self._count(f"rejected/{error.reason}")
            self._report("rejected", f"image rejected: {error}")
        except Exception as error:
            self._count("failed")
            self._report("failed", f"inference failed: {error}\n{traceback.format_exc()}")
        else:
            self._count("published")

    def _publish(self, msg: Image, image_rgb: Any, frame: AnomalyFrame, wanted: set[str]) -> None:
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
                self._outputs[name].publish(to_image_msg(*render(), msg.header))
        info = self._camera_info
        if "camera_info" in wanted and info is not None:
            info.header = msg.header
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


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to end."""
    rclpy.init(args=args)
    node = AnomalyNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.config.autostart and node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
