"""The topics of one camera: its images and calibration come in, its outputs are published."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from eomt_ext_core.health import CameraJudge, Health
from eomt_ext_core.tracking import Tracker
from eomt_ext_ros.diagnostics.camera_statistics import CameraStatistics
from eomt_ext_ros.messages.health_message import to_health_msg
from eomt_ext_ros.messages.images import decompress, to_rgb
from eomt_ext_ros.messages.installed import installed_type
from eomt_ext_ros.messages.label_info import to_label_info
from eomt_ext_ros.outputs.registry import OUTPUT_NAMES, OUTPUTS, Output, output_topic
from eomt_ext_ros.pipeline.camera_ground import CameraGround
from eomt_ext_ros.pipeline.stamp_filter import StampFilter
from eomt_ext_ros.pipeline.transforms import Transforms

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class Camera:
    """Hold the subscriptions and publishers of a camera.

    Args:
        node: that they belong to.
        image_transport: ``raw``, or ``compressed`` for ``~/input/image/compressed`` (``sensor_msgs/CompressedImage``).
        transforms: what tf says of its pose.
        statistics: of the camera. Its topics are ``~/<name>/input/…`` and ``~/<name>/output/…``, or, if it has no name,
            ``~/input/…`` and ``~/output/…``.

    Attributes:
        name: of the camera, or empty.
        info_topic: of its calibrations.
        info: the newest calibration that came in, or None.
        stamps: which images are not stale.
        ground: locates the obstacles in its images.
        tracker: of its obstacles; only the inference thread touches it.
        judge: whether the camera is well.
    """

    def __init__(
        self, node: LifecycleNode, image_transport: str, transforms: Transforms, statistics: CameraStatistics
    ) -> None:
        self.name = name = statistics.name
        self.statistics = statistics
        self.info: CameraInfo | None = None
        self.stamps = StampFilter()
        self.ground = CameraGround(transforms)
        self.tracker = Tracker()
        self.judge = CameraJudge()
        self._node = node
        self._prefix = f"~/{name}/" if name else "~/"
        self._compressed = image_transport == "compressed"
        self.info_topic = f"{self._prefix}input/camera_info"
        self._has_label_info = False
        self.publishers: dict[str, Any] = {}
        self.subscriptions: list[Any] = []

    def advertise(self) -> None:
        """Create the publishers, which publish nothing before the node is active."""
        group = MutuallyExclusiveCallbackGroup()  # of their own: a group remembers all that was ever in it
        for output in OUTPUTS:
            if (kind := installed_type(output.message_type)) is not None:
                is_of_image = output.render is not None
                qos = _newest_only(QoSReliabilityPolicy.RELIABLE) if is_of_image else {"qos_profile": _LATCHED}
                self.publishers[output.name] = self._node.create_lifecycle_publisher(
                    kind, output_topic(output.name, self.name, node="~"), callback_group=group, **qos
                )

    def withdraw(self) -> None:
        """Destroy the publishers."""
        while self.publishers:
            self._node.destroy_lifecycle_publisher(self.publishers.popitem()[1])

    def subscribe(self, on_image: Callable[[Any], None]) -> None:
        """Begin to receive; the camera's stamps count from anew, and it is judged anew."""
        self.stamps = StampFilter()
        self.judge = CameraJudge()
        self.statistics.restart()
        name, kind = ("image/compressed", CompressedImage) if self._compressed else ("image", Image)
        group = MutuallyExclusiveCallbackGroup()  # as in advertise()
        self._subscribe(kind, f"{self._prefix}input/{name}", on_image, group)
        self._subscribe(CameraInfo, self.info_topic, self._on_camera_info, group)

    def unsubscribe(self) -> None:
        """Receive no more."""
        while self.subscriptions:
            self._node.destroy_subscription(self.subscriptions.pop())
        self.info = None

    def subscribed(self, enabled: Collection[str]) -> tuple[Output, ...]:
        """Give those of the enabled outputs that somebody subscribes to."""
        return tuple(
            output
            for output in OUTPUTS
            if output.name in enabled
            and output.name in self.publishers
            and self.publishers[output.name].get_subscription_count() > 0
        )

    def why_unsubscribed(self, enabled: Collection[str]) -> str:
        """Explain why none of the enabled outputs is to be computed."""
        switched_off = sorted({output.name for output in self.subscribed(OUTPUT_NAMES)} - set(enabled))
        if switched_off:
            return f"{', '.join(switched_off)} subscribed to, but not in the parameter outputs"
        if self.wants_health:
            return "health alone is subscribed to"
        return "nobody subscribes to an output"

    def publish_label_info(self, class_names: Sequence[str], threshold: float) -> None:
        """Latch the names of the semantic classes, if the message type is installed.

        Without names nothing is latched, unless those of another model are to be replaced.
        """
        publisher = self.publishers.get("label_info")
        if publisher is not None and (class_names or self._has_label_info):
            self._has_label_info = True
            header = Header(stamp=self._node.get_clock().now().to_msg())
            publisher.publish(to_label_info(class_names, threshold, header))

    @property
    def wants_health(self) -> bool:
        """Whether somebody subscribes to the camera's health."""
        return bool(self.publishers["health"].get_subscription_count() > 0)

    def publish_health(self, health: Health | None) -> None:
        """Latch what the images say of the camera; None if none was judged."""
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: camera {self.name}".rstrip()
        topic = self.subscriptions[0].topic_name if self.subscriptions else ""
        self.publishers["health"].publish(to_health_msg(health, name, topic))

    def decode(self, msg: Any) -> NDArray[np.uint8]:
        """Decode an image message to (H, W, 3) uint8 RGB; raises ``ImageError``."""
        return decompress(msg) if self._compressed else to_rgb(msg)

    def age_s(self, stamp: Any) -> float | None:
        """Give the time since a stamp on the node's clock; None for the zero of a driver that does not stamp."""
        since_ns = self._node.get_clock().now().nanoseconds - stamp_ns(stamp)
        return since_ns * 1e-9 if stamp_ns(stamp) else None

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], group: MutuallyExclusiveCallbackGroup
    ) -> None:
        qos = _newest_only(QoSReliabilityPolicy.BEST_EFFORT)
        self.subscriptions.append(self._node.create_subscription(kind, topic, callback, callback_group=group, **qos))

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self.info = msg


def stamp_ns(stamp: Any) -> int:
    """Convert a ``builtin_interfaces/Time`` to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _newest_only(reliability: QoSReliabilityPolicy) -> dict[str, Any]:
    """Keywords for a topic, new for each, as rclpy writes the overrides of a topic into its profile."""
    return {
        "qos_profile": QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=reliability),
        "qos_overriding_options": QoSOverridingOptions.with_default_policies(),
    }
