import numpy as np

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.obstacles import find_obstacles, reasons


def test_a_reason_is_of_the_pixels_of_the_obstacle_and_of_those_right_below() -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[4:10, 5:9] = 0.9
    probability[4:14, 9:11] = 0.9  # a leg that reaches further down
    probability[12:20, 20:28] = 0.9  # at the lower edge
    classes = np.zeros((20, 30), np.uint8)
    classes[4:14, 5:11] = 2
    classes[10:14, 5:9] = 1  # beneath the first columns; 0 is beneath the leg
    statistics = np.stack([np.full((20, 30), level, np.float32) for level in (0.25, 1.5, 0.75, 0.75)])
    statistics[0][probability == 0] = 1
    found = find_obstacles(probability, ObstacleConfig(min_area_px=1), threshold=0.5)
    first, second = sorted(reasons(found, classes, statistics, ("sky", "road")), key=lambda each: each.nearest_class)
    assert first == ("2", "road", 0.25, 1.5, 0.75, 0.75)
    assert second == ("sky", "", 0.25, 1.5, 0.75, 0.75)
