"""Messages of obstacles; vision_msgs is seldom where the tests run, so that stand-ins with its published fields are."""

import dataclasses
import sys
import types

import numpy as np
import pytest

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.obstacles import Obstacle, find_obstacles
from eomt_ext_ros.messages.installed import installed_type
from eomt_ext_ros.messages.label_info import to_label_info
from eomt_ext_ros.messages.obstacle_messages import CLOUD_FIELDS, to_obstacles_msg
from eomt_ext_ros.outputs.registry import OUTPUTS

pytest.importorskip("sensor_msgs")
from geometry_msgs.msg import PoseWithCovariance
from sensor_msgs.msg import PointCloud2, PointField
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
VisionClass = message("VisionClass", class_id=int, class_name=str)
LabelInfo = message("LabelInfo", header=Header, class_map=[VisionClass], threshold=float)

STAND_INS = (
    Point2D, Pose2D, BoundingBox2D, ObjectHypothesis, ObjectHypothesisWithPose, Detection2D, Detection2DArray,
    VisionClass, LabelInfo,
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
    return next(installed_type(*row.message_types) for row in OUTPUTS if row.name == output)


def read(cloud):
    """The points of a cloud as a structured array, from nothing but what the message says of itself."""
    assert all(field.datatype == PointField.FLOAT32 and field.count == 1 for field in cloud.fields)
    layout = {
        "names": [field.name for field in cloud.fields],
        "formats": ["<f4"] * len(cloud.fields),
        "offsets": [field.offset for field in cloud.fields],
        "itemsize": cloud.point_step,
    }
    assert len(cloud.data) == cloud.height * cloud.row_step == cloud.width * cloud.point_step
    return np.frombuffer(cloud.data, np.dtype(layout))


def test_without_vision_msgs_obstacles_are_points_with_named_fields(installed):
    installed()
    assert type_of("obstacles") is PointCloud2
    cloud = to_obstacles_msg(OBSTACLES, HEADER)
    assert isinstance(cloud, PointCloud2)
    assert cloud.header == HEADER
    assert cloud.is_dense
    assert not cloud.is_bigendian
    assert [field.name for field in cloud.fields] == list(CLOUD_FIELDS)
    assert not {"x", "y", "z"} & set(CLOUD_FIELDS)
    expected = [(14.0, 22.0, 8.0, 4.0, 0.75, 30.0, 13.5, 22.25, 0.0), (0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 7.0)]
    assert read(cloud).tolist() == expected


def test_no_obstacles_are_a_message_too(installed):
    installed()
    cloud = to_obstacles_msg([], HEADER)
    assert (cloud.width, cloud.height, cloud.row_step, len(cloud.data)) == (0, 1, 0, 0)
    assert len(cloud.fields) == len(CLOUD_FIELDS)
    installed(*STAND_INS)
    assert to_obstacles_msg([], HEADER).detections == []


def test_with_vision_msgs_obstacles_are_detections(installed):
    installed(*STAND_INS)
    assert type_of("obstacles") is Detection2DArray
    msg = to_obstacles_msg(OBSTACLES, HEADER)
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
    (half, _) = to_obstacles_msg(OBSTACLES, HEADER, scale_xy=(0.5, 0.25)).detections
    assert half.bbox.center.position == Point2D(x=7.0, y=5.5)
    assert (half.bbox.size_x, half.bbox.size_y) == (4.0, 1.0)
    at = half.results[0].pose.pose.position
    assert (at.x, at.y, at.z) == (6.75, 5.5625, 3.75)
    installed()
    point = read(to_obstacles_msg(OBSTACLES, HEADER, scale_xy=(0.5, 0.25)))[0]
    assert point.tolist() == (7.0, 5.5, 4.0, 1.0, 0.75, 3.75, 6.75, 5.5625, 0.0)


def test_the_messages_take_what_the_core_finds(installed):
    probability = np.zeros((30, 40), np.float32)
    probability[3:9, 5:25] = 0.9
    frame = find_obstacles(probability, ObstacleConfig(), threshold=0.5)
    installed()
    (point,) = read(to_obstacles_msg(frame.obstacles, HEADER))
    assert point.tolist() == pytest.approx((15.0, 6.0, 20.0, 6.0, 0.9, 120.0, 15.0, 6.0, 0.0))
    installed(*STAND_INS)
    (detection,) = to_obstacles_msg(frame.obstacles, HEADER).detections
    assert detection.bbox.center.position == Point2D(x=15.0, y=6.0)
    for kind in (detection.bbox.size_x, detection.results[0].hypothesis.score):
        assert type(kind) is float, "rosidl takes no numpy scalars for some of its fields"


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
