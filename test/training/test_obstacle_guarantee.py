"""The threshold that bounds the fraction of missed obstacles."""

import numpy as np
import pytest
from eomt_ext_training.obstacle_guarantee import MissedObstacles, lost_rank, obstacles_needed, obstacles_of

from eomt_ext_core.errors import ConfigError, DatasetError


def frame(lost_at: float, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A frame with one obstacle, half of whose pixels lie at or above a logit."""
    logits, labels = np.full((64, 64), -9.0), np.zeros((64, 64), np.uint8)
    labels[4 : 4 + side, 4 : 4 + side] = 1
    logits[4 : 4 + side // 2, 4 : 4 + side] = lost_at
    return logits, labels


def test_an_obstacle_is_lost_where_half_of_it_is() -> None:
    logits, labels = frame(1.5)
    labels[40:43, 40:43] = 1  # 9 pixels: none
    labels[20:60, 20:23] = 255
    labels[50:64, 30:64] = 1
    logits[50:64, 30:64] = np.arange(14 * 34).reshape(14, 34)
    found = list(obstacles_of(logits, labels))
    assert [(obstacle.size, obstacle.lost_at) for obstacle in found] == [("small", 1.5), ("small", 238.0)]


def test_size_follows_the_area() -> None:
    assert [next(obstacles_of(*frame(0.0, side))).size for side in (4, 30, 32, 60)] == [
        "small", "small", "medium", "medium",
    ]  # fmt: skip


def test_the_threshold_is_where_the_allowed_number_is_lost() -> None:
    obstacles = MissedObstacles()
    for lost_at in np.random.default_rng(0).permutation(200):
        obstacles.add(*frame(float(lost_at)))
    chosen = obstacles.choose(0.9)
    assert chosen.counts == {"small": 200}
    assert chosen.logit == lost_rank(200, 0.1) - 1
    assert 5 < chosen.logit < 20


def test_every_size_that_is_there_often_enough_is_kept() -> None:
    obstacles = MissedObstacles()
    for number in range(60):
        obstacles.add(*frame(10.0 + number, 8))
        obstacles.add(*frame(5.0 + number, 40))
    obstacles.add(*frame(-5.0, 60))
    assert obstacles.choose(0.9).logit == -5.0, "the large ones are medium, too"


def test_the_bound_holds_about_as_often_as_promised() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        lost_at = np.sort(rng.random(150))  # the threshold t misses a fraction t
        held += lost_at[lost_rank(150, 0.1) - 1] <= 0.1
    assert held >= 194


def test_one_obstacle_of_a_frame_counts() -> None:
    obstacles = MissedObstacles()
    logits, labels = np.zeros((64, 64)), np.zeros((64, 64), np.uint8)
    for row in range(0, 64, 8):
        labels[row : row + 4, :] = 1
    for _ in range(10):
        obstacles.add(logits, labels)
    with pytest.raises(DatasetError, match=r"at least 44 frames .*got 10 small, 0 medium, 0 large"):
        obstacles.choose(0.9)


def test_a_target_outside_of_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 1\.0"):
        MissedObstacles().choose(1.0)
    assert lost_rank(obstacles_needed(0.9), 0.1) == 1
    assert lost_rank(obstacles_needed(0.9) - 1, 0.1) == 0
