"""Obstacles on the ground as ``PointCloud2`` and ``LaserScan`` of sensor_msgs, and ``Detection3DArray`` of vision_msgs.

All are in metres in the frame of their header, and stamped as the image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.ground import GroundFrame
from eomt_ext_core.ground.scan import INCREMENT_RAD, RANGE_MIN_M
from eomt_ext_ros.messages.obstacle_messages import CLASS_ID

if TYPE_CHECKING:
    from sensor_msgs.msg import LaserScan, PointCloud2
    from std_msgs.msg import Header

_FIELDS = (("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("probability", "<f4"), ("id", "<i4"), ("sigma_range", "<f4"))
_ANY_ANGLE = math.pi**2 / 3  # variance of an angle of which nothing is known


def to_point_cloud(ground: GroundFrame, header: Header) -> PointCloud2:
    """Make a cloud of all contacts with the ground, with ``sensor_msgs_py``'s layout of fields without gaps.

    Beside ``x``, ``y`` and ``z`` a point has its obstacle's ``probability`` and ``id``, which is an int32, and
    ``sigma_range``, the standard deviation of its range.

    Args:
        ground: the obstacles.
        header: set as it is.
    """
    points, of_obstacle = np.empty(len(ground.of_obstacle), list(_FIELDS)), ground.of_obstacle
    points["x"], points["y"], points["z"] = ground.points.xyz.T
    points["probability"] = np.array([each.obstacle.score for each in ground.obstacles], np.float32)[of_obstacle]
    points["id"] = np.array([each.id for each in ground.obstacles], np.int32)[of_obstacle]
    points["sigma_range"] = ground.points.sigma_range_m
    return to_cloud(points, header)


def to_cloud(points: NDArray[Any], header: Header) -> PointCloud2:
    """Make a cloud of a structured array, (N,), whose fields are little-endian float32 and int32 without gaps."""
    from sensor_msgs.msg import PointCloud2, PointField

    kinds = {"<f4": PointField.FLOAT32, "<i4": PointField.INT32}
    fields = [
        PointField(name=name, offset=4 * index, datatype=kinds[points.dtype[name].str], count=1)
        for index, name in enumerate(points.dtype.names or ())
    ]
    msg = PointCloud2(header=header, height=1, width=len(points), fields=fields, is_dense=True)
    msg.point_step, msg.row_step = points.itemsize, points.nbytes
    msg.data.frombytes(points.tobytes())
    return msg


def to_laser_scan(ranges_m: NDArray[np.float32], max_range_m: float, header: Header) -> LaserScan:
    """Make a scan all around.

    Args:
        ranges_m: as :func:`~eomt_ext_core.ground.scan` gives them.
        max_range_m: the largest that there may be.
        header: set as it is.
    """
    from sensor_msgs.msg import LaserScan

    msg = LaserScan(header=header, range_min=RANGE_MIN_M, range_max=max_range_m)
    msg.angle_min, msg.angle_increment = -math.pi, INCREMENT_RAD
    msg.angle_max = -math.pi + INCREMENT_RAD * (len(ranges_m) - 1)
    msg.ranges.frombytes(ranges_m.tobytes())
    return msg


def to_detections_3d(ground: GroundFrame, header: Header) -> Any:
    """Make a ``vision_msgs/Detection3DArray`` (vision_msgs 4 and later).

    ``bbox`` is a box around the obstacle: its size is the depth of the contact line, the width, and the height of the
    mask's top at that range, or 0 if that is not known. ``results[0].pose`` is the nearest contact with its covariance.

    Args:
        ground: the obstacles.
        header: set as it is.
    """
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

    msg = Detection3DArray(header=header)
    for each in ground.obstacles:
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = CLASS_ID, each.obstacle.score
        at = hypothesis.pose.pose.position
        at.x, at.y, at.z = each.nearest_xyz.tolist()
        covariance = np.diag([_ANY_ANGLE] * 6)
        covariance[:3, :3] = each.covariance
        hypothesis.pose.covariance = covariance.ravel()
        detection = Detection3D(header=header, results=[hypothesis], id=str(each.id))
        centre, size = detection.bbox.center, detection.bbox.size
        centre.position.x, centre.position.y, centre.position.z = each.box_xyz.tolist()
        centre.orientation.z, centre.orientation.w = math.sin(each.yaw / 2), math.cos(each.yaw / 2)
        size.x, size.y, size.z = each.size_xyz
        msg.detections.append(detection)
    return msg
