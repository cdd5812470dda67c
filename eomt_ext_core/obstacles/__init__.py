"""From an anomaly probability to obstacles: a mask, and a list of its connected components.

>>> import numpy as np
>>> from eomt_ext_core.config import ObstacleConfig
>>> from eomt_ext_core.obstacles import find_obstacles
>>> probability = np.zeros((4, 6), np.float32)
>>> probability[1:3, 2:5] = 0.9
>>> find_obstacles(probability, ObstacleConfig(min_area_px=6), threshold=0.5).obstacles[0].box_xywh
(2, 1, 3, 2)
"""

from .find import Obstacle, ObstacleFrame, TrackState, find_obstacles
from .reasons import Reason, reasons
from .regions import check_obstacle_config, drivable_ids

__all__ = [
    "Obstacle",
    "ObstacleFrame",
    "Reason",
    "TrackState",
    "check_obstacle_config",
    "drivable_ids",
    "find_obstacles",
    "reasons",
]
