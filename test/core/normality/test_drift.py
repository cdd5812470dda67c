"""A change is told soon, and a drive like the calibration hardly ever called another one."""

import numpy as np
import pytest

from eomt_ext_core.errors import CheckpointError, DatasetError
from eomt_ext_core.normality.drift import DriftReference, DriftTest, DriftWatch

ALPHA = 0.05


def drive(seed: int, count: int, shift: float = 0.0) -> list[float]:
    return (np.random.default_rng(seed).standard_normal(count) + shift).tolist()


def alarm(seed: int, strangeness: list[float]) -> DriftTest:
    test = DriftTest(DriftReference.of_images(drive(10_000 + seed, 100)), ALPHA)
    for value in strangeness:
        test.add(value)
    return test


def test_alarm_rate_on_drives_like_the_calibration() -> None:
    alarms = sum(alarm(seed, drive(seed, 200)).has_drifted for seed in range(100))
    assert alarms <= 5  # of 100 at 5 %; what Ville's inequality bounds is the expectation


def test_a_change_after_a_long_ordinary_drive_is_told_and_dated() -> None:
    test = alarm(0, drive(0, 500) + drive(1, 60, shift=4.0))
    assert test.since is not None
    assert abs(test.since - 501) <= 3


def test_less_strange_images_are_no_alarm() -> None:
    assert not alarm(0, drive(0, 200, shift=-4.0)).has_drifted


def test_images_as_strange_as_the_strangest_are_no_alarm() -> None:
    test = DriftTest(DriftReference((1.0,) * 50), ALPHA)
    for _ in range(300):
        test.add(1.0)
    assert not test.has_drifted


@pytest.mark.parametrize("count", [20, 100, 2000])
def test_any_number_of_calibration_images_tells_another_road_soon(count: int) -> None:
    test = DriftTest(DriftReference.of_images(drive(0, count)), 0.01)
    while not test.has_drifted:
        test.add(9.0)
    assert test.num_images <= 12


def test_the_alarm_stays() -> None:
    test = alarm(0, drive(0, 30, shift=6.0) + drive(1, 100))
    assert test.since == 1


@pytest.mark.parametrize("stored", [None, "x", [], [1.0] * 19, [1.0] * 19 + [True], [float("nan")] * 30, [0.0] * 3000])
def test_a_reference_from_a_file_is_checked(stored: object) -> None:
    with pytest.raises(CheckpointError, match="drift reference"):
        DriftReference.of_json(stored)


def test_a_reference_keeps_an_even_choice_of_many_images() -> None:
    assert len(DriftReference.of_images(drive(0, 5000)).strangeness) <= 2000
    with pytest.raises(DatasetError, match="at least 20"):
        DriftReference.of_images([1.0])


def test_one_image_a_second_is_watched_and_the_change_has_a_date() -> None:
    watch = DriftWatch(DriftReference.of_images(drive(0, 100)), ALPHA)
    for number in range(600):  # 10 Hz; another road after 30 s
        time_s = 1e9 + number / 10
        if watch.is_due(time_s):
            watch.add(9.0 if number >= 300 else 0.0, time_s)
    assert watch.test.num_images == 60
    assert "since 2001-09-09 01:47:1" in watch.finding
    assert watch.is_due(0.0), "a clock was set back"
