"""Obstacles as a message: ``vision_msgs/Detection2DArray`` if that is installed, else ``sensor_msgs/PointCloud2``.

Both hold the same figures of each obstacle, the largest obstacle first, in pixels of the published images, whose
``camera_info`` goes with them: the pixel in column i covers [i, i + 1), so that the centre of a box minus half its
size is its first column.

==================  ===========================================  ==================
figure              Detection2D                                  field of the cloud
==================  ===========================================  ==================
box, centre         bbox.center.position.x, .y                   u, v
box, size           bbox.size_x, .size_y                         width, height
score, in [0, 1]    results[0].hypothesis.score                  score
area of the mask    results[0].pose.pose.position.z              area
centroid of it      results[0].pose.pose.position.x, .y          centroid_u, centroid_v
==================  ===========================================  ==================

``Detection2D`` has no place for an area. The pose of a hypothesis is that of "some fixed reference point on the object,
such as … the center of mass"; here it is that of the mask, in pixels as all else in the message, and its third
coordinate, which has no other use in an image, is the area. ``results[0].hypothesis.class_id`` is ``obstacle``, and
``id`` is empty: nothing is followed from image to image.

``PointCloud2`` stands in since it comes with ``sensor_msgs``, has a header, names and types its fields, holds any
number of obstacles, and is read by ``sensor_msgs_py.point_cloud2`` and recorded as any message. It has one float32 a
field, areas up to 2²⁴ pixels exact, and on purpose no x, y, z: nothing takes pixels for metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eomt_ext_core.obstacles import Obstacle
from eomt_ext_ros.messages.installed import installed_type

if TYPE_CHECKING:
    from sensor_msgs.msg import PointCloud2
    from std_msgs.msg import Header

CLASS_ID = "obstacle"
CLOUD_FIELDS = ("u", "v", "width", "height", "score", "area", "centroid_u", "centroid_v")

NO_SCALE = (1.0, 1.0)


def to_obstacles_msg(obstacles: Sequence[Obstacle], header: Header, scale_xy: tuple[float, float] = NO_SCALE) -> Any:
    """Make a ``vision_msgs/Detection2DArray`` if that is installed, else a ``sensor_msgs/PointCloud2``.

    Args:
        obstacles: in pixels of the camera's image.
        header: set as it is: stamp and frame of that image.
        scale_xy: width and height of the published images as fractions of the camera's.
    """
    convert = to_detections if installed_type("vision_msgs/msg/Detection2DArray") else to_point_cloud
    return convert(obstacles, header, scale_xy)


def to_detections(obstacles: Sequence[Obstacle], header: Header, scale_xy: tuple[float, float] = NO_SCALE) -> Any:
    """Make a ``vision_msgs/Detection2DArray`` (vision_msgs 4 and later); arguments as :func:`to_obstacles_msg`."""
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    msg = Detection2DArray(header=header)
    for obstacle in obstacles:
        u, v, width, height, score, area, centroid_u, centroid_v = _figures(obstacle, scale_xy)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = CLASS_ID, score
        at = hypothesis.pose.pose.position
        at.x, at.y, at.z = centroid_u, centroid_v, area
        detection = Detection2D(header=header, results=[hypothesis])
        detection.bbox.center.position.x, detection.bbox.center.position.y = u, v
        detection.bbox.size_x, detection.bbox.size_y = width, height
        msg.detections.append(detection)
    return msg


def to_point_cloud(
    obstacles: Sequence[Obstacle], header: Header, scale_xy: tuple[float, float] = NO_SCALE
) -> PointCloud2:
    """Make a ``sensor_msgs/PointCloud2`` of ``CLOUD_FIELDS``, little-endian; arguments as :func:`to_obstacles_msg`."""
    from sensor_msgs.msg import PointCloud2, PointField

    rows = np.array([_figures(obstacle, scale_xy) for obstacle in obstacles], "<f4").reshape(-1, len(CLOUD_FIELDS))
    msg = PointCloud2(header=header, height=1, width=len(rows), is_dense=True)
    msg.fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(CLOUD_FIELDS)
    ]
    msg.point_step = 4 * len(CLOUD_FIELDS)
    msg.row_step = rows.nbytes
    msg.data.frombytes(rows.tobytes())
    return msg


def _figures(obstacle: Obstacle, scale_xy: tuple[float, float]) -> tuple[float, ...]:
    """Return the values in the order of ``CLOUD_FIELDS``."""
    (left, top, width, height), (centroid_u, centroid_v), (x, y) = obstacle.box_xywh, obstacle.centroid_xy, scale_xy
    centre = (left + width / 2) * x, (top + height / 2) * y
    area = obstacle.area_px * x * y
    return *centre, width * x, height * y, obstacle.score, area, centroid_u * x, centroid_v * y
