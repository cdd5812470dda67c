"""A camera that is not well is found under the right name; one that is well is not blamed."""

import numpy as np
import pytest

from eomt_ext_core import ConfigError
from eomt_ext_core.health import FAULT_TEXTS, CameraJudge, HealthConfig
from eomt_ext_core.health.sample import take_sample
from eomt_ext_core.health.verdict import Persistence
from eomt_ext_core.scenes import SceneConfig, SceneVideo
from eomt_ext_core.scenes.faults import FAULT_KINDS, CameraFault

RATE_HZ = 15.0
FROM, FRAMES = 8, 24
CALLED = {
    "frozen_encoded": "frozen", "covered": "no_detail", "fogged": "no_detail", "blurred": "no_detail",
}  # fmt: skip
CONFIG = HealthConfig()


@pytest.fixture(scope="module")
def drive():
    video = SceneVideo(5, SceneConfig(size_hw=(180, 320)), fps=RATE_HZ)
    return [video.frame(index).image_rgb for index in range(FRAMES)]


def kinds_of(images, *, rate_hz=RATE_HZ, judge=None, config=CONFIG):
    """The kinds of fault after each image."""
    judge = judge or CameraJudge()
    return [
        [fault.kind for fault in judge.look(image, index / rate_hz, config).faults]
        for index, image in enumerate(images)
    ]


def still(image, count, sigma):
    rng = np.random.default_rng(0)
    noises = (rng.standard_normal(image.shape) * sigma for _ in range(count))
    return [np.clip(np.rint(image + noise), 0, 255).astype(np.uint8) for noise in noises]


def test_a_clean_drive_has_no_fault(drive):
    assert kinds_of(drive) == [[]] * FRAMES


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_is_found_within_a_second_under_its_name(drive, kind):
    fault = CameraFault(kind, 5, FROM)
    found = kinds_of([fault.put_into(image, index) for index, image in enumerate(drive)])
    assert found[:FROM] == [[]] * FROM
    assert found[FROM + round(RATE_HZ)] == [CALLED.get(kind, kind)]


def test_a_camera_that_stands_still_differs_by_its_noise(drive):
    assert kinds_of(still(drive[0], 12, 0.5)) == [[]] * 12
    assert kinds_of([drive[0]] * 12)[-1] == ["frozen"]


def test_the_own_bonnet_is_no_dirt(drive):
    with_bonnet = [image.copy() for image in drive]
    for image in with_bonnet:
        image[150:] = 40
    assert kinds_of(with_bonnet) == [[]] * FRAMES


def test_a_fault_is_over_when_it_has_been_gone_for_a_while(drive):
    black = np.zeros_like(drive[0])
    found = kinds_of([*[black] * 8, *drive])
    assert found[7] == ["black"]
    assert found[8 + round(0.9 * RATE_HZ)] == ["black"]
    assert found[8 + round(1.1 * RATE_HZ)] == []


def test_it_says_since_when(drive):
    judge = CameraJudge()
    for index in range(8):
        judge.look(np.zeros_like(drive[0]), 100 + index / 10, CONFIG)
    (fault,) = judge.health.faults
    assert fault.since_s == 100
    assert "black since the stamp 100.000" in fault.text
    assert judge.health.has_error


@pytest.mark.parametrize(("first", "second"), [(50.0, 20.0), (0.0, 900.0)])
def test_a_jump_of_time_is_no_comparison(drive, first, second):
    judge = CameraJudge()
    for index in range(3):
        judge.look(drive[0], first + index / 100, CONFIG)
    assert judge.look(drive[0], second, CONFIG).faults == ()


def test_another_size_starts_over(drive):
    judge = CameraJudge()
    for index in range(8):
        judge.look(np.zeros((90, 160, 3), np.uint8), index / 10, CONFIG)
    assert judge.look(drive[0], 0.9, CONFIG).faults == ()


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 500), (70, 2), (1080, 1920)])
def test_any_size_can_be_judged(size_hw):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    sample = take_sample(image)
    assert sample.tiles.shape == (64, 96)
    assert np.isfinite([sample.fine_contrast, sample.large_contrast]).all()
    CameraJudge().look(image, 0.0, CONFIG)


def test_noise_is_no_detail():
    rng = np.random.default_rng(0)
    grey = np.clip(np.rint(120 + rng.standard_normal((360, 640, 3)) * 9), 0, 255).astype(np.uint8)
    assert take_sample(grey).fine_contrast < 1.0


def test_the_road_above_the_sky_is_upside_down(drive):
    semantic = np.full((180, 320), 2, np.uint8)
    semantic[:60], semantic[120:] = 1, 0
    judge, names = CameraJudge(), ("road", "Sky", "car")
    for index, classes in enumerate([semantic] * 5 + [semantic[::-1]] * 8):
        judge.look(drive[index], index / RATE_HZ, CONFIG)
        judge.look_at_classes(classes, names, index / RATE_HZ, CONFIG)
        if index == 4:
            assert judge.health.faults == ()
    assert [fault.kind for fault in judge.health.faults] == ["upside_down"]


def test_a_model_without_sky_says_nothing_of_what_is_up(drive):
    judge = CameraJudge()
    for index in range(8):
        judge.look_at_classes(np.zeros((64, 96), np.uint8), ("road", "car"), index / RATE_HZ, CONFIG)
    assert judge.health.faults == ()


def test_a_sign_must_last_and_be_gone_for_long():
    persistence, heard = Persistence(), []
    for index, sign in enumerate([True, False, True, True, True, False, True, False, False, False]):
        persistence.update({"dirt": sign}, index * 0.1, 0.2, 0.25)
        heard.append([fault.since_s for fault in persistence.health.faults])
    since = pytest.approx(0.2)
    assert heard == [[], [], [], [], [since], [since], [since], [since], [since], []]


def test_dirt_is_a_warning_and_every_kind_has_its_words():
    persistence = Persistence()
    persistence.update({"dirt": True}, 0.0, 0.0, 1.0)
    assert persistence.health.faults
    assert not persistence.health.has_error
    assert {CALLED.get(kind, kind) for kind in FAULT_KINDS} == set(FAULT_TEXTS)


def test_an_option_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="white_fraction must be at most 1"):
        HealthConfig(white_fraction=2.0)
