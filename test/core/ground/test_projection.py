"""Pixels to metres: against OpenCV's own projection, by hand, and by properties."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_core.errors import GroundError
from eomt_ext_core.ground import (
    GroundConfig,
    camera_model,
    pose_from_angles,
    pose_from_transform,
    project,
    range_interval,
)

K = (500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0)
PLAIN = camera_model("plumb_bob", (480, 640), K, [0.0] * 5)
BARREL = camera_model("plumb_bob", (480, 640), K, [-0.35, 0.02, 0.001, -0.001, 0.0])
EXACT = GroundConfig(pitch_deviation_deg=0.0, roll_deviation_deg=0.0, height_deviation_m=0.0)


def random_camera(rng):
    """Like those of vehicles: focal lengths, distortions and poses all over the place."""
    name = str(rng.choice(["plumb_bob", "rational_polynomial", "equidistant"]))
    d = {
        "plumb_bob": [rng.normal(0, 0.2), rng.normal(0, 0.05), *rng.normal(0, 1e-3, 2), rng.normal(0, 0.01)],
        "rational_polynomial": [*rng.normal(0, [0.3, 0.1, 1e-3, 1e-3, 0.02]), *rng.normal(0, [0.3, 0.1, 0.02])],
        "equidistant": rng.normal(0, [0.1, 0.03, 0.01, 0.003]).tolist(),
    }[name]
    f = rng.uniform(300, 2000)
    k = (f, 0.0, 960 + rng.normal(0, 20), 0.0, f * rng.uniform(0.98, 1.02), 540 + rng.normal(0, 20), 0.0, 0.0, 1.0)
    pose = pose_from_angles(rng.uniform(0.5, 3.0), rng.uniform(-10, 40), rng.uniform(-15, 15))
    return camera_model(name, (1080, 1920), k, d), pose


def seen_by_opencv(camera, pose, points):
    rvec, _ = cv2.Rodrigues(pose.rotation.T)
    tvec = -pose.rotation.T @ pose.position
    if camera.is_fisheye:
        return cv2.fisheye.projectPoints(points[:, None], rvec, tvec, camera.matrix, camera.distortion)[0][:, 0]
    return cv2.projectPoints(points, rvec, tvec, camera.matrix, camera.distortion)[0][:, 0]


def test_points_come_back_from_opencv_within_a_micrometre():
    rng, worst, count = np.random.default_rng(0), 0.0, 0
    while count < 10_000:
        camera, pose = random_camera(rng)
        distance, bearing = rng.uniform(1, 30, 100), rng.uniform(-1.2, 1.2, 100)
        points = np.stack([distance * np.cos(bearing), distance * np.sin(bearing), np.zeros(100)], 1)
        optical = (points - pose.position) @ pose.rotation
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = (optical[:, 2] > 0.1) & (np.hypot(*(optical[:, :2] / optical[:, 2:]).T) < camera.fold)
        points = points[ahead]
        pixels = seen_by_opencv(camera, pose, points) if len(points) else np.empty((0, 2))
        inside = ((pixels >= 0) & (pixels < (1920, 1080))).all(1)
        found = project(pixels[inside], camera, pose, EXACT).xyz
        count += len(found)
        assert np.isfinite(found).all(), camera
        worst = max(worst, np.abs(found - points[inside]).max(initial=0.0))
    assert worst <= 1e-6


def test_by_hand():
    pose = pose_from_angles(1.5)
    found = project(np.array([[320.0, 290.0], [420.0, 290.0], [320.0, 240.0], [320.0, 100.0]]), PLAIN, pose, EXACT)
    np.testing.assert_allclose(found.xyz[:2], [[15, 0, 0], [15, -3, 0]], atol=1e-12)
    assert np.isnan(found.xyz[2:]).all(), "at and above the horizon"
    # z = f h / v, so that a pixel at 15 m is 15² / (1.5 · 500) m, and one within half of it off by 1 / √12 of that.
    assert found.per_row_m[0] == pytest.approx(-0.3)
    assert found.sigma_range_m[0] == pytest.approx(0.3 / np.sqrt(12))


def test_pitch_and_roll_are_those_of_rep_103():
    straight = np.array([[320.0, 240.0]])
    assert project(straight, PLAIN, pose_from_angles(1.0, pitch_deg=45), EXACT).xyz[0] == pytest.approx([1, 0, 0])
    right, left = project(np.array([[520.0, 300.0], [120.0, 300.0]]), PLAIN, pose_from_angles(1, 0, 5), EXACT).range_m
    assert right < left, "a camera whose right side is down looks nearer there"


@pytest.mark.parametrize(
    ("deviation", "changed"),
    [
        ("pitch_deviation_deg", lambda e: pose_from_angles(1.4, 3 + e, 2)),
        ("roll_deviation_deg", lambda e: pose_from_angles(1.4, 3, 2 + e)),
        ("height_deviation_m", lambda e: pose_from_angles(1.4 + e, 3, 2)),
    ],
)
def test_the_covariance_is_what_a_small_change_does(deviation, changed):
    pixels = np.array([[100.0, 330.0], [320.0, 400.0], [600.0, 280.0]])
    step = 1e-4
    none = {"pitch_deviation_deg": 0.0, "roll_deviation_deg": 0.0, "height_deviation_m": 0.0}
    before, after = (project(pixels, BARREL, changed(e), EXACT).xyz for e in (-step / 2, step / 2))
    moved = (after - before) / step
    pixel_part = project(pixels, BARREL, changed(0.0), EXACT).covariance
    found = project(pixels, BARREL, changed(0.0), GroundConfig(**none | {deviation: 0.1})).covariance - pixel_part
    np.testing.assert_allclose(found[:, :2, :2], 0.01 * moved[:, :2, None] * moved[:, None, :2], rtol=1e-3, atol=1e-9)


def test_half_a_pixel_of_a_distorted_image_is_what_its_neighbours_say():
    pose, pixel = pose_from_angles(1.4, 3, 2), np.array([[100.0, 330.0]])
    steps = [(0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)]
    right, left, below, above = project(pixel + steps, BARREL, pose, EXACT).xyz
    u, v = (right - left) / 0.02, (below - above) / 0.02
    expected = (np.outer(u, u) + np.outer(v, v)) / 12
    np.testing.assert_allclose(project(pixel, BARREL, pose, EXACT).covariance[0], expected, rtol=1e-3, atol=1e-9)


angles = st.floats(-30, 30)


@given(angles, angles, st.floats(0.3, 5), st.floats(0, 639), st.floats(0, 479))
def test_a_point_is_in_front_below_the_horizon_and_seen_at_its_pixel(pitch, roll, height, u, v):
    pose, pixel = pose_from_angles(height, pitch, roll), np.array([[u, v]])
    found = project(pixel, BARREL, pose, EXACT).xyz[0]
    if np.isfinite(found).all():
        assert abs(found[2]) < 1e-6 * np.linalg.norm(found)
        np.testing.assert_allclose(BARREL.pixels(((found - pose.position) @ pose.rotation)[None])[0], [u, v], atol=1e-3)
    else:
        ray = np.append(BARREL.rays(pixel).xy[0], 1.0) @ pose.rotation.T
        assert np.isnan(ray).any() or ray[2] >= 0


@given(st.floats(-0.6, -0.1), st.floats(0, 900), st.floats(0, 2 * np.pi))
def test_no_ray_is_given_where_the_distortion_folds(k1, radius_px, turn):
    camera = camera_model("plumb_bob", (480, 640), K, [k1, 0.0, 0.0, 0.0])
    fold = np.sqrt(-1 / (3 * k1))  # r (1 + k1 r²) goes back from here on
    farthest_px = 500 * fold * 2 / 3
    pixel = np.array([[320 + radius_px * np.cos(turn), 240 + radius_px * np.sin(turn)]])
    xy = camera.rays(pixel).xy[0]
    assert camera.fold == pytest.approx(fold, abs=0.02)
    if radius_px > farthest_px:
        assert np.isnan(xy).all()
    elif radius_px < 0.9 * farthest_px:
        assert np.hypot(*xy) < fold
        np.testing.assert_allclose(camera.pixels(np.append(xy, 1.0)[None]), pixel, atol=1e-5)


def test_the_interval_of_a_range_holds_nine_tenths_whatever_the_pitch():
    rng, config = np.random.default_rng(0), GroundConfig(pitch_deviation_deg=1.0, height_deviation_m=0.0)
    held = []
    for truth, error in zip(np.linspace(5, 30, 1000), rng.normal(0, 1, 1000), strict=True):
        pixel = np.array([[320.0, 240 + 500 * 1.4 / truth]])
        found = project(pixel, PLAIN, pose_from_angles(1.4, error), config)
        if np.isfinite(found.range_m[0]):
            low, high = range_interval(found.range_m, found.sigma_range_m)
            held.append(low[0] <= truth <= high[0])
    assert len(held) > 980
    assert 0.88 < np.mean(held) < 0.92


@pytest.mark.parametrize(
    ("camera", "what"),
    [
        (("fisheye62", (4, 4), K, [0.0] * 4), "must be one of plumb_bob"),
        (("", (4, 4), K, [0.1] * 5), "must be one of"),
        (("plumb_bob", (4, 4), K, [0.1] * 3), "5 distortion coefficients, got 3"),
        (("plumb_bob", (4, 4), [0.0] * 9, [0.1] * 5), "not calibrated"),
        (("plumb_bob", (4, 4), K, [float("nan")] * 5), "not calibrated"),
        (("plumb_bob", (4, 4), (*K[:8], 2.0), [0.1] * 5), "must be \\[fx 0 cx"),
    ],
)
def test_a_calibration_that_is_none_is_refused(camera, what):
    with pytest.raises(GroundError, match=what):
        camera_model(*camera)


@pytest.mark.parametrize("height", [0.0, -1.4, 1e6, float("nan")])
def test_a_camera_that_is_not_above_the_ground_is_refused(height):
    with pytest.raises(GroundError, match="implausible"):
        pose_from_angles(height)


def test_a_transform_places_the_camera_and_the_ground():
    half = float(np.sqrt(0.5))
    optical = (-0.5, 0.5, -0.5, 0.5)  # of a camera that looks along x
    pose = pose_from_transform(((2.0, 0.0, 1.0), optical), ground=((0.0, 0.0, -0.5), (0.0, 0.0, 0.0, 1.0)))
    assert pose.height_m == 1.5
    assert project(np.array([[320.0, 290.0]]), PLAIN, pose, EXACT).xyz[0] == pytest.approx([17, 0, -0.5])
    with pytest.raises(GroundError, match="implausible"):
        pose_from_transform(((0, 0, -1), optical))
    with pytest.raises(GroundError, match="length 1, got one of length 0"):
        pose_from_transform(((0, 0, 1), (0, 0, 0, 0)))
    with pytest.raises(GroundError, match="its z axis must point up"):
        pose_from_transform(((0, -1, 0), optical), ground=((0, 0, 0), (half, 0, 0, half)))
