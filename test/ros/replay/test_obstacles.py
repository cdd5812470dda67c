"""The table of obstacles that a replay writes."""

import csv
import json

import numpy as np
import pytest

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.tracking import Tracker, TrackingConfig
from eomt_ext_ros.bags.messages import plane
from eomt_ext_ros.replay.topics import output_topic


def rows(outcome):
    with (outcome.folder / "obstacles.csv").open() as file:
        return list(csv.DictReader(file))


def test_obstacles_are_followed_in_each_camera_by_the_stamps(drive, replay, read_outputs):
    topics = ("/front/image", "/rear/image")
    bag = drive(topics=topics, frames=5)
    outcome = replay(bag, image_topic=topics, min_area_px=5, threshold=0.2)
    assert outcome.status == 0, outcome.text
    assert json.loads((outcome.folder / "metrics.json").read_text())["about"]["threshold"] == "0.2 (set)"
    outputs, expected, obstacles = read_outputs(outcome.folder / "annotated"), [], ObstacleConfig(min_area_px=5)
    for camera in ("front", "rear"):
        tracker = Tracker()
        for _, msg in outputs[output_topic(camera, "probability")]:
            stamp = msg.header.stamp
            found = find_obstacles(plane(msg).astype(np.float32), obstacles, threshold=0.2)
            stamp_s = stamp.sec + stamp.nanosec * 1e-9
            found = tracker.follow(found, stamp_s, TrackingConfig(), threshold=0.2)
            name = f"{stamp.sec}.{stamp.nanosec:09d}"
            expected += [(camera, name, str(each.track_id), each.state) for each in found.listed]
    found = sorted((row["camera"], row["stamp"], row["track_id"], row["state"]) for row in rows(outcome))
    assert found == sorted(expected)
    assert {state for *_, state in found} >= {"tentative", "confirmed"}


def test_only_confirmed_ones_or_without_tracking(drive, replay):
    bag = drive(frames=4)
    everything, confirmed, plain = (
        replay(bag, out=name, threshold=0.2, **options)
        for name, options in (("all", {}), ("confirmed", {"confirmed_only": True}), ("plain", {"no_tracking": True}))
    )
    assert {row["state"] for row in rows(confirmed)} == {"confirmed"}
    assert len(rows(confirmed)) < len(rows(everything))
    assert {row["track_id"] for row in rows(plain)} == {""}
    outcome = replay(bag, out="both", confirmed_only=True, no_tracking=True)
    assert outcome.status == 1
    with pytest.raises(ConfigError, match="confirmed_only needs tracking, which is off"):
        raise outcome.exception
