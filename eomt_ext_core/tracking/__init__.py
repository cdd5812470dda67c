"""Obstacles over time: ids that they keep from image to image, and how certain each is.

>>> import numpy as np
>>> from eomt_ext_core.config import ObstacleConfig
>>> from eomt_ext_core.obstacles import find_obstacles
>>> from eomt_ext_core.tracking import Tracker, TrackingConfig
>>> tracker, states = Tracker(), []
>>> for frame in range(3):
...     probability = np.zeros((40, 60), np.float32)
...     probability[10:20, 10 + frame : 30 + frame] = 0.9
...     found = find_obstacles(probability, ObstacleConfig(), threshold=0.5)
...     (obstacle,) = tracker.follow(found, stamp_s=frame / 15, config=TrackingConfig()).obstacles
...     states.append((obstacle.track_id, obstacle.state))
>>> states
[(1, 'tentative'), (1, 'confirmed'), (1, 'confirmed')]
"""

from .record import ObstacleRecord, obstacle_record, obstacle_rows
from .tracker import Tracker
from .tracking_config import TrackingConfig, check_confirmed_only

__all__ = ["ObstacleRecord", "Tracker", "TrackingConfig", "check_confirmed_only", "obstacle_record", "obstacle_rows"]
