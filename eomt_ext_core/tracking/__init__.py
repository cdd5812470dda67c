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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .tracking_config import TrackingConfig, check_confirmed_only

if TYPE_CHECKING:
    from .record import ObstacleRecord, obstacle_record, obstacle_rows
    from .tracker import Tracker

__all__ = ["ObstacleRecord", "Tracker", "TrackingConfig", "check_confirmed_only", "obstacle_record", "obstacle_rows"]


def __getattr__(name: str) -> Any:
    # Commands show the defaults of TrackingConfig in their help, which needs neither numpy nor OpenCV.
    if name in __all__:
        return getattr(import_module(f"{__name__}.{'tracker' if name == 'Tracker' else 'record'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
