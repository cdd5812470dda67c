"""From pixels to metres: where obstacles stand on the ground, seen by a calibrated camera over a plane.

Only the line where an obstacle touches the ground is projected, never its whole mask, which would smear behind it.
"""

from .camera_model import CameraModel, camera_model
from .camera_pose import CameraPose, pose_from_angles, pose_from_transform
from .ground_config import GroundConfig
from .locate import GroundFrame, GroundObstacle, locate
from .projection import GroundPoints, project, range_interval
from .scan import GroundView, scan

__all__ = [
    "CameraModel",
    "CameraPose",
    "GroundConfig",
    "GroundFrame",
    "GroundObstacle",
    "GroundPoints",
    "GroundView",
    "camera_model",
    "locate",
    "pose_from_angles",
    "pose_from_transform",
    "project",
    "range_interval",
    "scan",
]
