"""Ranges of obstacles in drawn drives, by their true masks, against where they stand."""

import numpy as np

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.ground import GroundConfig, camera_model, locate, pose_from_angles
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.scenes import SceneConfig, SceneVideo

CONFIG = SceneConfig(obstacle_probability=1.0, max_obstacles=1, obstacle_families=("box", "tyre", "animal", "cone"))


def test_ranges_are_true_within_a_hundredth_and_nothing_is_behind():
    errors = []
    for seed in range(20):
        scene = SceneVideo(seed, CONFIG, speed_m_s=6).frame(6)
        item = min(scene.obstacles, key=lambda item: item.forward_m)
        foot = scene.camera.matrix @ (-item.left_m, scene.camera.height_m, item.forward_m)
        column, row = np.rint(foot[:2] / foot[2]).astype(int)
        half = max(1, int(scene.camera.focal_px * item.width_m / item.forward_m / 2))
        by_the_foot = scene.labels[row - 4 : row, max(0, column - half) : max(0, column + half)]
        if not 5 <= item.forward_m <= 30 or not (by_the_foot == 1).any():
            continue  # too near or far, or behind a car or the bonnet
        found = find_obstacles((scene.labels == 1).astype(np.float32), ObstacleConfig(min_area_px=20), threshold=0.5)
        camera = camera_model("", scene.labels.shape, scene.camera.matrix.ravel().tolist(), ())
        ground = locate(found, camera, pose_from_angles(scene.camera.height_m), GroundConfig())
        located = min(ground.obstacles, key=lambda each: abs(each.nearest_xyz[1] - item.left_m))
        points = ground.points.xyz[ground.of_obstacle == ground.obstacles.index(located)]
        errors.append(abs(located.nearest_xyz[0] / item.forward_m - 1))
        pixel_m = item.forward_m**2 / scene.camera.focal_px / scene.camera.height_m
        assert points[:, 0].max() < item.forward_m + item.width_m / 2 + 2 * pixel_m
        assert located.size_xyz[1] < 1.2 * item.width_m + 0.1
    assert len(errors) > 8
    assert np.median(errors) < 0.01
