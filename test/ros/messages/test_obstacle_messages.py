"""Messages of obstacles; vision_msgs is seldom where the tests run, so that stand-ins with its published fields are."""

import dataclasses
import sys
import types

import numpy as np
import pytest

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.ground import GroundConfig, camera_model, locate, pose_from_angles
from eomt_ext_core.obstacles import Obstacle, find_obstacles
from eomt_ext_ros.messages.ground_messages import to_detections_3d
from eomt_ext_ros.messages.installed import installed_type
from eomt_ext_ros.messages.label_info import to_label_info
from eomt_ext_ros.messages.obstacle_messages import to_detections
from eomt_ext_ros.outputs.registry import OUTPUTS

pytest.importorskip("sensor_msgs")
from geometry_msgs.msg import Pose, PoseWithCovariance, Vector3
from std_msgs.msg import Header

HEADER = Header(frame_id="camera_optical")
OBSTACLES = [
    Obstacle(score=0.75, box_xywh=(10, 20, 8, 4), area_px=30, centroid_xy=(13.5, 22.25)),
    Obstacle(1.0, (0, 0, 1, 1), 1, (0.5, 0.5), track_id=7, state="confirmed", evidence=0.99),
]


def message(name, **fields):
    """A class like those that rosidl makes: keyword arguments, and no attributes but its fields.

    ``fields`` are their types, a list of a type standing for an unbounded array of it.
    """

    def default(kind):
        return dataclasses.field(default_factory=list if isinstance(kind, list) else kind)

    def check(self):
        for field, kind in fields.items():
            value = getattr(self, field)
            if isinstance(kind, list):
                assert all(isinstance(item, kind[0]) for item in value), f"{name}.{field} holds {kind[0]}"
            else:
                assert isinstance(value, kind), f"{name}.{field} is of {kind}, got {value!r}"

    described = [(field, object, default(kind)) for field, kind in fields.items()]
    return dataclasses.make_dataclass(name, described, namespace={"__post_init__": check}, slots=True, kw_only=True)


# github.com/ros-perception/vision_msgs, branch ros2, 4.1.1: the fields of msg/*.msg.
Point2D = message("Point2D", x=float, y=float)
Pose2D = message("Pose2D", position=Point2D, theta=float)
BoundingBox2D = message("BoundingBox2D", center=Pose2D, size_x=float, size_y=float)
ObjectHypothesis = message("ObjectHypothesis", class_id=str, score=float)
ObjectHypothesisWithPose = message("ObjectHypothesisWithPose", hypothesis=ObjectHypothesis, pose=PoseWithCovariance)
Detection2D = message("Detection2D", header=Header, results=[ObjectHypothesisWithPose], bbox=BoundingBox2D, id=str)
Detection2DArray = message("Detection2DArray", header=Header, detections=[Detection2D])
BoundingBox3D = message("BoundingBox3D", center=Pose, size=Vector3)
Detection3D = message("Detection3D", header=Header, results=[ObjectHypothesisWithPose], bbox=BoundingBox3D, id=str)
Detection3DArray = message("Detection3DArray", header=Header, detections=[Detection3D])
VisionClass = message("VisionClass", class_id=int, class_name=str)
LabelInfo = message("LabelInfo", header=Header, class_map=[VisionClass], threshold=float)

STAND_INS = (
    Point2D, Pose2D, BoundingBox2D, ObjectHypothesis, ObjectHypothesisWithPose, Detection2D, Detection2DArray,
    BoundingBox3D, Detection3D, Detection3DArray, VisionClass, LabelInfo,
)  # fmt: skip


@pytest.fixture
def installed(monkeypatch):
    """Let vision_msgs have the messages given, or, where there are none, not be installed."""

    def install(*messages):
        package, module = types.ModuleType("vision_msgs"), types.ModuleType("vision_msgs.msg")
        module.__dict__.update({kind.__name__: kind for kind in messages})
        package.msg = module
        monkeypatch.setitem(sys.modules, "vision_msgs", package if messages else None)
        monkeypatch.setitem(sys.modules, "vision_msgs.msg", module if messages else None)
        installed_type.cache_clear()

    yield install
    installed_type.cache_clear()


def type_of(output):
    """The message type under which an output is published."""
    return next(installed_type(row.message_type) for row in OUTPUTS if row.name == output)


def test_without_vision_msgs_there_is_no_topic_of_obstacles(installed):
    installed()
    assert type_of("obstacles") is None


def test_no_obstacles_are_a_message_too(installed):
    installed(*STAND_INS)
    assert to_detections([], HEADER).detections == []


def test_with_vision_msgs_obstacles_are_detections(installed):
    installed(*STAND_INS)
    assert type_of("obstacles") is Detection2DArray
    msg = to_detections(OBSTACLES, HEADER)
    assert msg.header == HEADER
    first, second = msg.detections
    assert first.header == HEADER
    assert (first.bbox.center.position, first.bbox.center.theta) == (Point2D(x=14.0, y=22.0), 0.0)
    assert (first.bbox.size_x, first.bbox.size_y, first.id) == (8.0, 4.0, "")
    (result,) = first.results
    assert result.hypothesis == ObjectHypothesis(class_id="obstacle", score=0.75)
    at = result.pose.pose.position
    assert (at.x, at.y, at.z) == (13.5, 22.25, 30.0)
    assert (second.bbox.size_x, second.id) == (1.0, "7")
    assert second.results[1].hypothesis == ObjectHypothesis(class_id="confirmed", score=0.99)


def test_pixels_are_those_of_the_published_images(installed):
    installed(*STAND_INS)
    (half, _) = to_detections(OBSTACLES, HEADER, scale_xy=(0.5, 0.25)).detections
    assert half.bbox.center.position == Point2D(x=7.0, y=5.5)
    assert (half.bbox.size_x, half.bbox.size_y) == (4.0, 1.0)
    at = half.results[0].pose.pose.position
    assert (at.x, at.y, at.z) == (6.75, 5.5625, 3.75)


def test_the_messages_take_what_the_core_finds(installed):
    probability = np.zeros((30, 40), np.float32)
    probability[3:9, 5:25] = 0.9
    frame = find_obstacles(probability, ObstacleConfig(), threshold=0.5)
    installed(*STAND_INS)
    (detection,) = to_detections(frame.obstacles, HEADER).detections
    assert detection.bbox.center.position == Point2D(x=15.0, y=6.0)
    for kind in (detection.bbox.size_x, detection.results[0].hypothesis.score):
        assert type(kind) is float, "rosidl takes no numpy scalars for some of its fields"


def test_obstacles_on_the_ground_are_boxes_with_the_nearest_contact(installed):
    installed(*STAND_INS)
    assert type_of("obstacles_3d") is Detection3DArray
    probability = np.zeros((400, 640), np.float32)
    probability[260:300, 220:420] = 0.75
    found = find_obstacles(probability, ObstacleConfig(), threshold=0.5)
    camera = camera_model("", (400, 640), (1000.0, 0.0, 319.5, 0.0, 1000.0, 199.5, 0.0, 0.0, 1.0), ())
    ground = locate(found, camera, pose_from_angles(1.0), GroundConfig())
    (detection,) = to_detections_3d(ground, HEADER).detections
    (result,), box = detection.results, detection.bbox
    assert (detection.id, result.hypothesis) == ("0", ObjectHypothesis(class_id="obstacle", score=0.75))
    assert result.pose.pose.position.x == pytest.approx(10)
    covariance = np.reshape(result.pose.covariance, (6, 6))
    assert covariance[0, 0] == pytest.approx(ground.obstacles[0].sigma_range_m ** 2, rel=0.02)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert (box.center.position.x, box.center.position.y, box.center.position.z) == pytest.approx((10, 0, 0.2))
    assert (box.center.orientation.z, box.center.orientation.w) == (0, 1)
    assert (box.size.x, box.size.y, box.size.z) == pytest.approx((0, 2, 0.4))


def test_label_info_names_the_classes(installed):
    installed(*STAND_INS)
    assert type_of("label_info") is LabelInfo
    msg = to_label_info(["road", "sky"], np.float32(0.5), HEADER)
    assert [(item.class_id, item.class_name) for item in msg.class_map] == [(0, "road"), (1, "sky")]
    assert (msg.threshold, msg.header) == (0.5, HEADER)


def test_label_info_is_left_out_where_vision_msgs_lacks_it(installed):
    installed()
    assert type_of("label_info") is None
    installed(*STAND_INS[:-2])
    assert type_of("label_info") is None
    assert type_of("obstacles") is Detection2DArray
