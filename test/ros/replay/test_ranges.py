"""Obstacles of a bag in metres, by the recorded calibration and the camera's height."""

import csv
import json
from math import atan, radians, tan

import pytest

from eomt_ext_core.errors import ConfigError

from .conftest import START_NS, STEP_NS

SIZE_HW = 48, 80
FOCAL_PX, HEIGHT_M = 60.0, 1.5


@pytest.fixture
def bag(write_bag, serialize, serialize_info, pixels_of):
    """Two frames, the first before the calibration is received."""
    messages = []
    for index in range(2):
        stamp = START_NS + index * STEP_NS
        image = serialize(pixels_of(index, SIZE_HW), "raw", stamp, "optical_0")
        messages.append(("/camera/image", "raw", stamp, image))
        messages.append(("/camera/info", "info", stamp + 5, serialize_info(FOCAL_PX, SIZE_HW, stamp)))
    return write_bag("drive", messages)


def rows(outcome):
    with (outcome.folder / "obstacles.csv").open() as file:
        return list(csv.DictReader(file))


def test_ranges_are_those_of_the_geometry(bag, replay):
    options = {"threshold": 0.51, "min_area_px": 5}
    outcome = replay(bag, camera_info_topic="/camera/info", height_m=HEIGHT_M, pitch_deg="20", **options)
    assert outcome.status == 0, outcome.text
    located = [row for row in rows(outcome) if row["range_m"]]
    assert {row["stamp"] for row in located} == {row["stamp"] for row in rows(outcome)}
    whole = [row for row in located if bottom(row) < SIZE_HW[0] - 1]
    assert whole
    for row in whole:  # to the side it is farther than straight ahead
        assert distance_m(bottom(row)) - 0.01 <= float(row["range_m"]) <= 1.3 * distance_m(bottom(row))
        assert 0 < float(row["sigma_range_m"]) < float(row["range_m"])
    plain = replay(bag, out="plain", **options)
    assert {row["range_m"] for row in rows(plain)} == {""}


def bottom(row):
    return int(row["top"]) + int(row["height"]) - 1


def distance_m(row):
    """Of a row of pixels straight ahead: the height over the tangent of the angle below the horizon."""
    return HEIGHT_M / tan(radians(20) + atan((row + 0.5 - (SIZE_HW[0] - 1) / 2) / FOCAL_PX))


def test_what_is_missing_is_told(bag, replay):
    outcome = replay(bag, camera_info_topic="/camera/camera_info", height_m=1.5, threshold=0.2)
    assert outcome.status == 3
    assert "no calibration comes from /camera/camera_info" in outcome.text
    problems = json.loads((outcome.folder / "metrics.json").read_text())["about"]["problems"]
    assert [text for text in problems if "obstacles have no range: there is no calibration" in text]
    for wrong in ({"height_m": 1.5}, {"camera_info_topic": "/camera/info"}):
        with pytest.raises(ConfigError, match="give --camera-info-topic and --height-m, or neither"):
            raise replay(bag, out="no", **wrong).exception
    with pytest.raises(ConfigError, match="locate obstacles: give --camera-info-topic too"):
        raise replay(bag, out="no", pitch_deg="20").exception
    with pytest.raises(ConfigError, match="for one camera, got 2: replay them one by one"):
        raise replay(bag, out="no", image_topic=("/a", "/b"), height_m=1, camera_info_topic="/i").exception
