"""Obstacles in the image as a ``vision_msgs/Detection2DArray`` (vision_msgs 4 and later).

It holds these figures of each obstacle, the largest obstacle first, in pixels of the published images, whose
``camera_info`` goes with them: the pixel in column i covers [i, i + 1), so that the centre of a box minus half its
size is its first column.

==================  ===========================================
figure              Detection2D
==================  ===========================================
box, centre         bbox.center.position.x, .y
box, size           bbox.size_x, .size_y
score, in [0, 1]    results[0].hypothesis.score
area of the mask    results[0].pose.pose.position.z
centroid of it      results[0].pose.pose.position.x, .y
id over time        id
state, evidence     results[1].hypothesis.class_id, .score
==================  ===========================================

``Detection2D`` has no place for an area. The pose of a hypothesis is that of "some fixed reference point on the object,
such as … the center of mass"; here it is that of the mask, in pixels as all else in the message, and its third
coordinate, which has no other use in an image, is the area. ``results[0].hypothesis.class_id`` is ``obstacle``.

An obstacle that is not followed from image to image has an empty ``id`` and no ``results[1]``; the state of others is
``tentative``, ``confirmed`` or ``coasting``. Those that coast come last, with an area of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eomt_ext_core.obstacles import Obstacle

if TYPE_CHECKING:
    from std_msgs.msg import Header

CLASS_ID = "obstacle"
NO_SCALE = (1.0, 1.0)


def to_detections(obstacles: Sequence[Obstacle], header: Header, scale_xy: tuple[float, float] = NO_SCALE) -> Any:
    """Make a ``vision_msgs/Detection2DArray``.

    Args:
        obstacles: in pixels of the camera's image.
        header: set as it is: stamp and frame of that image.
        scale_xy: width and height of the published images as fractions of the camera's.
    """
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    msg = Detection2DArray(header=header)
    for obstacle in obstacles:
        u, v, width, height, score, area, centroid_u, centroid_v = _figures(obstacle, scale_xy)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = CLASS_ID, score
        at = hypothesis.pose.pose.position
        at.x, at.y, at.z = centroid_u, centroid_v, area
        track_id = "" if obstacle.track_id is None else str(obstacle.track_id)
        detection = Detection2D(header=header, results=[hypothesis], id=track_id)
        detection.bbox.center.position.x, detection.bbox.center.position.y = u, v
        detection.bbox.size_x, detection.bbox.size_y = width, height
        if obstacle.state is not None:
            track = ObjectHypothesisWithPose()
            track.hypothesis.class_id, track.hypothesis.score = obstacle.state, obstacle.evidence
            detection.results.append(track)
        msg.detections.append(detection)
    return msg


def _figures(obstacle: Obstacle, scale_xy: tuple[float, float]) -> tuple[float, ...]:
    """Return centre and size of the box, score, area and centroid."""
    (left, top, width, height), (centroid_u, centroid_v), (x, y) = obstacle.box_xywh, obstacle.centroid_xy, scale_xy
    centre = (left + width / 2) * x, (top + height / 2) * y
    area = obstacle.area_px * x * y
    return *centre, width * x, height * y, obstacle.score, area, centroid_u * x, centroid_v * y
