"""The calibration that goes with a published image."""

import numpy as np
import pytest

pytest.importorskip("sensor_msgs")
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from eomt_ext_core import ImageError
from eomt_ext_ros.messages.camera_info import image_size_hw, published_camera_info

K = np.array([[900.0, 0.5, 640.25], [0, 910, 359.75], [0, 0, 1]])
P = np.array([[880.0, 0, 641, -105.6], [0, 880, 362, 0], [0, 0, 1, 0]])
HEADER = Header(stamp=Time(sec=5, nanosec=6), frame_id="front")


def camera_info(**changes):
    info = CameraInfo(header=Header(stamp=Time(sec=1), frame_id="front"), height=720, width=1280)
    info.k, info.p, info.d = K.ravel().copy(), P.ravel().copy(), [0.1, 0.2, 0.0, 0.0, 0.3]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def test_for_an_image_in_its_own_size_only_the_header_changes():
    info = camera_info()
    result = published_camera_info(info, HEADER, (720, 1280), (720, 1280))
    assert result.header == HEADER
    result.header = info.header
    assert result == info == camera_info()


@given(
    st.floats(-3, 3), st.floats(-2, 2), st.floats(1, 50), st.integers(1, 719), st.integers(1, 1279),
    st.sampled_from([(0, 0), (1, 1), (2, 2), (2, 1)]), st.sampled_from([(0, 0, 0, 0), (100, 60, 640, 480)]),
)  # fmt: skip
def test_a_point_is_seen_where_the_smaller_image_shows_it(x, y, z, height, width, binning, roi):
    left, top, roi_width, roi_height = roi
    info = camera_info(
        binning_x=binning[0],
        binning_y=binning[1],
        roi=RegionOfInterest(x_offset=left, y_offset=top, width=roi_width, height=roi_height, do_rectify=True),
    )
    size_hw = image_size_hw(info)
    assert size_hw == ((roi_height or 720) // (binning[1] or 1), (roi_width or 1280) // (binning[0] or 1))
    result = published_camera_info(info, HEADER, size_hw, (height, width))
    assert (result.height, result.width, result.binning_x, result.roi) == (
        height, width, 0, RegionOfInterest(do_rectify=True),
    )  # fmt: skip
    for before, after, point in (
        (K, np.reshape(result.k, (3, 3)), (x, y, z)),
        (P, np.reshape(result.p, (3, 4)), (x, y, z, 1)),
    ):
        u, v, w = before @ point
        # Edges of pixels, from the corner of the image: of the sensor, then read out, binned and resized.
        edge_u = (u / w + 0.5 - left) / (binning[0] or 1) * width / size_hw[1]
        edge_v = (v / w + 0.5 - top) / (binning[1] or 1) * height / size_hw[0]
        small_u, small_v, small_w = after @ point
        np.testing.assert_allclose((small_u / small_w, small_v / small_w), (edge_u - 0.5, edge_v - 0.5), atol=1e-6)
    assert list(result.d) == list(info.d)
    assert info == camera_info(binning_x=binning[0], binning_y=binning[1], roi=info.roi)


@pytest.mark.parametrize(
    ("changes", "size_hw", "rule"),
    [
        (
            {"header": Header(frame_id="lidar")},
            (720, 1280),
            "of the image's frame 'front'.*got 'lidar': remap camera_info, or",
        ),
        ({}, (360, 640), "must be of the image's size 640×360.*got 1280×720"),
    ],
)
def test_a_calibration_of_something_else_is_refused(changes, size_hw, rule):
    with pytest.raises(ImageError, match=rule):
        published_camera_info(camera_info(**changes), HEADER, size_hw, size_hw)


def test_a_driver_without_a_calibration_is_no_fault():
    info = CameraInfo(header=Header(frame_id="front"))
    assert published_camera_info(info, HEADER, (360, 640), (360, 640)).header == HEADER
    smaller = published_camera_info(info, HEADER, (360, 640), (180, 320))
    assert (smaller.height, smaller.width) == (180, 320)
    assert not np.any(smaller.k), "zeros are what an uncalibrated camera is known by"
    assert not np.any(smaller.p)


def test_names_of_frames_are_told_in_short():
    frames = ["\x1b[2Jevil" * 10**6, "lidar" * 10**6]
    with pytest.raises(ImageError) as caught:
        published_camera_info(
            camera_info(header=Header(frame_id=frames[0])), Header(frame_id=frames[1]), (720, 1280), (720, 1280)
        )
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)
