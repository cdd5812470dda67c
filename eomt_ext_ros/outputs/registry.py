"""The outputs of the node, one row for each topic ``~/output/<name>``.

Parameters, cameras, launch files, replay and demo read it here; the guides, the SROS 2 policy and ``anomaly.yaml`` name
each output by hand, and tests compare. To add one, see ``docs/how_to/output.md``.

Importing this module imports neither NumPy nor OpenCV: launch files read it too, and the interpreter of ``ros2 launch``
may have neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from eomt_ext_ros.outputs.rendering import Rendering

Audience = Literal["programs", "people"]
Need = Literal["inference", "probability", "confidence", "obstacles", "semantic", "camera_info", "ground"]


@dataclass(frozen=True)
class Output:
    """A topic ``~/output/<name>``.

    Attributes:
        name: of the topic, and of the output in the parameter ``outputs``.
        message_type: always the same, as who subscribes relies on it; if it is not installed, there is no topic.
        audience: all outputs for programs are published before the next image is inferred; visualisations, which are
            for people, are drawn beside it.
        needs: what has to be computed for it, or has to come in. A probability of 8 bits, ``confidence``, comes from
            the device if nothing needs the one of 32.
        render: makes the pixels of an output with an encoding, else the message. None: it describes the model or the
            camera, and is latched when what it says changes.
        encoding: ``32FC1``, ``mono8`` or ``rgb8`` if the message is an image, ``jpeg`` if it is a compressed one.
        shows: what it has more to show of, if that can be had.
    """

    name: str
    message_type: str
    audience: Audience
    needs: frozenset[Need]
    render: Callable[[Rendering], Any] | None
    encoding: str = ""
    shows: frozenset[Need] = frozenset()

    def content(self, rendering: Rendering) -> Any:
        """Make what is published of an image: pixels if there is an encoding, else the message."""
        assert self.render is not None, f"{self.name} describes no single image"
        return self.render(rendering)

    def message(self, rendering: Rendering) -> Any:
        """Make the message of an image, with the header of that image."""
        content = self.content(rendering)
        if not self.encoding:
            return content
        from eomt_ext_ros.messages.images import to_image_msg, to_jpeg_msg

        if self.encoding == "jpeg":
            return to_jpeg_msg(content, rendering.header)
        return to_image_msg(content, self.encoding, rendering.header)


def _obstacles(rendering: Rendering) -> Any:
    from eomt_ext_ros.messages.obstacle_messages import to_detections

    return to_detections(rendering.found.listed, rendering.header, rendering.scale_xy)


def _obstacle_points(rendering: Rendering) -> Any:
    from eomt_ext_ros.messages.ground_messages import to_point_cloud

    return to_point_cloud(rendering.on_ground.frame, rendering.on_ground.header)


def _obstacles_3d(rendering: Rendering) -> Any:
    from eomt_ext_ros.messages.ground_messages import to_detections_3d

    return to_detections_3d(rendering.on_ground.frame, rendering.on_ground.header)


def _scan(rendering: Rendering) -> Any:
    from eomt_ext_ros.messages.ground_messages import to_laser_scan

    on_ground = rendering.on_ground
    return to_laser_scan(rendering.scan, on_ground.view.config.max_range_m, on_ground.header)


def _camera_info(rendering: Rendering) -> Any:
    from eomt_ext_ros.messages.camera_info import published_camera_info

    return published_camera_info(rendering.camera_info, rendering.header, rendering.size_hw, rendering.published_hw)


_IMAGE = "sensor_msgs/msg/Image"
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_POINTS = "sensor_msgs/msg/PointCloud2"
_OBSTACLES_3D = "vision_msgs/msg/Detection3DArray"
_SCAN = "sensor_msgs/msg/LaserScan"
_OBSTACLES = "vision_msgs/msg/Detection2DArray"
_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_LABEL_INFO = "vision_msgs/msg/LabelInfo"
_HEALTH = "diagnostic_msgs/msg/DiagnosticStatus"


def _needs(*names: Need) -> frozenset[Need]:
    return frozenset(names)


_OF_LEVELS = _needs("inference", "confidence")
_OF_MASK = _needs("inference", "obstacles")
_ON_GROUND = _needs("inference", "obstacles", "ground")

OUTPUTS = (
    Output("probability", _IMAGE, "programs", _needs("inference", "probability"), attrgetter("probability"), "32FC1"),
    Output("confidence", _IMAGE, "programs", _OF_LEVELS, attrgetter("confidence"), "mono8"),
    Output("mask", _IMAGE, "programs", _OF_MASK, attrgetter("mask"), "mono8"),
    Output("overlay", _IMAGE, "people", _OF_MASK, attrgetter("overlay"), "rgb8", _needs("ground")),
    Output("overlay/compressed", _COMPRESSED, "people", _OF_MASK, attrgetter("overlay"), "jpeg", _needs("ground")),
    Output("heatmap", _IMAGE, "people", _OF_LEVELS, attrgetter("heatmap"), "rgb8"),
    Output("heatmap/compressed", _COMPRESSED, "people", _OF_LEVELS, attrgetter("heatmap"), "jpeg"),
    Output("semantic", _IMAGE, "programs", _needs("inference", "semantic"), attrgetter("semantic"), "mono8"),
    Output("obstacles", _OBSTACLES, "programs", _OF_MASK, _obstacles),
    Output("obstacle_points", _POINTS, "programs", _ON_GROUND, _obstacle_points),
    Output("obstacles_3d", _OBSTACLES_3D, "programs", _ON_GROUND, _obstacles_3d),
    Output("scan", _SCAN, "programs", _ON_GROUND, _scan),
    Output("camera_info", _CAMERA_INFO, "programs", _needs("camera_info"), _camera_info),
    Output("label_info", _LABEL_INFO, "programs", _needs(), None),
    Output("health", _HEALTH, "programs", _needs(), None),
)

OUTPUT_NAMES = tuple(output.name for output in OUTPUTS if output.render is not None)
"""What the parameter ``outputs`` chooses from: all that is published with each image."""


RECORDED = ("probability", "mask", "overlay")
"""What replay and demo record by default."""


def output_topic(output: str, camera: str = "", node: str = "/eomt_ext") -> str:
    """Name the topic of an output; a single camera has no name in it.

    >>> output_topic("mask"), output_topic("mask", "front", node="~")
    ('/eomt_ext/output/mask', '~/front/output/mask')
    """
    return "/".join(part for part in (node, camera, "output", output) if part)
