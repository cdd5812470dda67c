"""Bags to learn from, and what a replay says of a drive that is another one."""

from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.normality import drives
from eomt_ext_ros.bag_support import bag_drive


def test_a_bag_is_a_drive(drive, pixels_of):
    bag = drive(frames=6)
    opened = bag_drive(bag.path, "/camera/image")
    assert (opened.name, opened.num_images) == ("drive", 6)
    found = list(opened.images(1, 6, 2))
    assert len(found) == 3
    np.testing.assert_array_equal(found[0], pixels_of(1))


def test_learn_normal_finds_bags_by_the_entry_point(drive, monkeypatch):
    config = ConfigParser()
    config.read(Path(__file__).resolve().parents[3] / "setup.cfg")
    name, _, value = config["options.entry_points"][drives.DRIVE_GROUP].strip().partition(" = ")
    monkeypatch.setattr(drives, "entry_points", lambda group: [EntryPoint(name, value, group)])
    (opened,) = drives.open_drives([drive().path], "/camera/image")
    assert opened.num_images == 6


def test_the_topics_of_a_bag_are_named(drive, tmp_path):
    with pytest.raises(ConfigError, match="/camera/image; got none"):
        bag_drive(drive().path, None)
    assert bag_drive(tmp_path, "/camera/image") is None


def test_a_replay_says_since_when_the_drive_is_another_one(drive, replay, tiny_normality):
    outcome = replay(drive(frames=150), normality=tiny_normality, scores="fused,head")
    assert outcome.status == 0, outcome.text
    assert "since 2023-11-14 22:13:20" in " ".join(outcome.text.split())
    assert b'"mask_fraction": 1.0' in (outcome.folder / "metrics.json").read_bytes()
