"""Is the camera well? Judged from its images alone, at a fraction of a millisecond each; needs no ROS."""

from .config import HealthConfig
from .judge import CameraJudge
from .verdict import FAULT_TEXTS, Fault, Health

__all__ = ["FAULT_TEXTS", "CameraJudge", "Fault", "Health", "HealthConfig"]
