"""Messages to pixels and back, and that no malformed message does worse than an ImageError."""

import array
import sys
import types

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eomt_ext_core.errors import ImageError
from eomt_ext_ros.messages import images
from eomt_ext_ros.messages.images import DECODED_ENCODINGS, MAX_PIXELS, to_image_msg, to_rgb

pytest.importorskip("sensor_msgs")
from sensor_msgs.msg import Image
from std_msgs.msg import Header

REASONS = {"empty", "dimensions", "step", "size", "encoding", "decode"}
CHANNELS = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1}
YUV422 = ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"]


def image_msg(encoding, height, width, step, data):
    msg = Image(height=height, width=width, encoding=encoding, step=step)
    msg.data.frombytes(bytes(data))
    return msg


def packed_msg(encoding, pixels, padding=0):
    """A message of an (H, W) or (H, W, C) array, each row followed by padding bytes of 99."""
    rows = np.asarray(pixels, np.uint8).reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return image_msg(encoding, rows.shape[0], np.shape(pixels)[1], padded.shape[1], padded.tobytes())


def reason_of(call, *args):
    with pytest.raises(ImageError) as caught:
        call(*args)
    return caught.value.reason


def rgb_or_reason(call, msg):
    try:
        return call(msg)
    except ImageError as error:
        return error.reason


PIXELS = np.array([[[1, 2, 3], [40, 50, 60]], [[7, 8, 9], [255, 0, 128]]], np.uint8)


# Packed RGB and grey


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", PIXELS),
        ("bgr8", PIXELS[..., ::-1]),
        ("8UC3", PIXELS[..., ::-1]),
        ("rgba8", np.dstack([PIXELS, np.full((2, 2), 77)])),
        ("bgra8", np.dstack([PIXELS[..., ::-1], np.full((2, 2), 77)])),
    ],
)
def test_colour_orders_come_out_as_rgb(encoding, stored, padding):
    np.testing.assert_array_equal(to_rgb(packed_msg(encoding, stored, padding)), PIXELS)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated_over_the_channels(encoding):
    rgb = to_rgb(packed_msg(encoding, [[0, 10, 20], [30, 40, 255]], padding=1))
    np.testing.assert_array_equal(rgb, [[[0] * 3, [10] * 3, [20] * 3], [[30] * 3, [40] * 3, [255] * 3]])


@pytest.mark.parametrize("padding", [0, 2])
def test_rgb8_shares_its_memory_with_the_message(padding):
    msg = packed_msg("rgb8", PIXELS, padding)
    rgb = to_rgb(msg)
    assert np.shares_memory(rgb, np.frombuffer(msg.data, np.uint8))
    assert rgb.strides == (msg.step, 3, 1)
    msg.data[0] = 200
    assert rgb[0, 0, 0] == 200


@pytest.mark.parametrize("container", [bytes, bytearray, lambda data: np.frombuffer(data, np.uint8)])
def test_data_may_come_in_other_containers_than_rclpys(container):
    msg = types.SimpleNamespace(
        height=2, width=2, step=6, encoding="rgb8", is_bigendian=0, data=container(PIXELS.tobytes())
    )
    np.testing.assert_array_equal(to_rgb(msg), PIXELS)


def test_big_endian_means_nothing_for_bytes():
    msg = packed_msg("bgr8", PIXELS)
    msg.is_bigendian = 1
    np.testing.assert_array_equal(to_rgb(msg), PIXELS[..., ::-1])


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7).map(lambda hw: (*hw, 3))),
    st.integers(0, 4),
)
@settings(deadline=None, max_examples=60)
def test_rgb8_round_trip(pixels, padding):
    np.testing.assert_array_equal(to_rgb(to_image_msg(pixels, "rgb8", Header())), pixels)
    np.testing.assert_array_equal(to_rgb(packed_msg("rgb8", pixels, padding)), pixels)


# Bayer: the name gives the colours of the upper left 2 x 2 pixels, row by row


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_of_a_uniform_colour(pattern):
    colour = {"r": 200, "g": 100, "b": 50}
    tile = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    rgb = to_rgb(packed_msg(f"bayer_{pattern}8", np.tile(tile, (3, 4)), padding=3))
    np.testing.assert_array_equal(rgb, np.full((6, 8, 3), [200, 100, 50]))


def test_bayer_interpolates_its_neighbours():
    mosaic = np.zeros((5, 5), np.uint8)
    mosaic[2, 2] = 80  # in RGGB even rows and columns are red
    red = to_rgb(packed_msg("bayer_rggb8", mosaic))
    np.testing.assert_array_equal(red[1:4, 1:4, 0], [[20, 40, 20], [40, 80, 40], [20, 40, 20]])
    assert not red[..., 1:].any()


@pytest.mark.parametrize("shape", [(2, 2), (1, 5), (6, 2)])
def test_bayer_too_small_to_interpolate_is_refused(shape):
    assert reason_of(to_rgb, packed_msg("bayer_rggb8", np.ones(shape))) == "dimensions"


# YUV: BT.601 limited range, R = 1.164 (Y - 16) + 1.596 (V - 128),
# G = 1.164 (Y - 16) - 0.392 (U - 128) - 0.813 (V - 128), B = 1.164 (Y - 16) + 2.017 (U - 128)


def yuv_to_rgb(y, u, v):
    luma = 1.164 * (y - 16.0)
    rgb = luma + 1.596 * (v - 128), luma - 0.392 * (u - 128) - 0.813 * (v - 128), luma + 2.017 * (u - 128)
    return np.clip(rgb, 0, 255)


LUMA = np.array([[16, 235, 81, 145], [100, 120, 140, 160]])
U = np.array([[128, 90], [100, 150]])  # one value for each two columns
V = np.array([[128, 240], [160, 110]])


def expected_rgb(u, v):
    return np.array([[yuv_to_rgb(LUMA[y, x], u[y, x // 2], v[y, x // 2]) for x in range(4)] for y in range(2)])


@pytest.mark.parametrize("encoding", YUV422)
@pytest.mark.parametrize("padding", [0, 3])
def test_packed_yuv(encoding, padding):
    pixels = np.zeros((2, 4, 2), np.uint8)
    luma, chroma = (1, 0) if encoding in ("uyvy", "yuv422") else (0, 1)
    pixels[..., luma] = LUMA
    pixels[:, 0::2, chroma], pixels[:, 1::2, chroma] = U, V
    rgb = to_rgb(packed_msg(encoding, pixels, padding))
    np.testing.assert_allclose(rgb, expected_rgb(U, V), atol=1)
    assert rgb[0, 0].tolist() == [0, 0, 0]  # luma 16 is black, 235 white: limited range
    assert rgb[0, 1].tolist() == [255, 255, 255]


def semi_planar_rows(encoding):
    chroma = (U[0], V[0]) if encoding == "nv12" else (V[0], U[0])
    return np.vstack([LUMA, np.stack(chroma, axis=1).reshape(1, 4)]).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 4])
def test_semi_planar_yuv(encoding, padding):
    rows = np.pad(semi_planar_rows(encoding), ((0, 0), (0, padding)), constant_values=99)
    rgb = to_rgb(image_msg(encoding, 2, 4, 4 + padding, rows.tobytes()))
    np.testing.assert_allclose(rgb, expected_rgb(U[[0, 0]], V[[0, 0]]), atol=1)


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_semi_planar_yuv_with_a_step_of_size_over_height(encoding):
    data = semi_planar_rows(encoding).tobytes()
    np.testing.assert_array_equal(
        to_rgb(image_msg(encoding, 2, 4, 6, data)), to_rgb(image_msg(encoding, 2, 4, 4, data))
    )


@pytest.mark.parametrize(
    ("encoding", "height", "width"), [*((e, 2, 3) for e in YUV422), ("nv12", 3, 4), ("nv12", 2, 3), ("nv21", 1, 2)]
)
def test_odd_sides_do_not_fit_subsampled_chroma(encoding, height, width):
    assert reason_of(to_rgb, image_msg(encoding, height, width, 2 * width, bytes(2 * width * height))) == "dimensions"


# Malformed messages


@pytest.mark.parametrize(
    ("msg", "reason"),
    [
        (Image(), "empty"),
        (image_msg("rgb8", 2, 2, 6, b""), "empty"),
        (image_msg("rgb8", 0, 2, 6, bytes(12)), "dimensions"),
        (image_msg("rgb8", 2, 0, 6, bytes(12)), "dimensions"),
        (image_msg("rgb8", 2**32 - 1, 2**32 - 1, 2**32 - 1, bytes(12)), "dimensions"),
        (image_msg("mono8", 1, MAX_PIXELS + 1, MAX_PIXELS + 1, bytes(12)), "dimensions"),
        (image_msg("rgb8", 2, 2, 5, bytes(12)), "step"),
        (image_msg("rgb8", 2, 2, 0, bytes(12)), "step"),
        (image_msg("nv12", 2, 4, 3, bytes(12)), "step"),
        (image_msg("rgb8", 2, 2, 6, bytes(11)), "size"),
        (image_msg("rgb8", 2, 2, 6, bytes(13)), "size"),
        (image_msg("mono8", 2, 2, 2**32 - 1, bytes(4)), "size"),
        (image_msg("nv12", 2, 4, 4, bytes(8)), "size"),
        (image_msg("RGB8", 2, 2, 6, bytes(12)), "encoding"),
        (image_msg("", 2, 2, 6, bytes(12)), "encoding"),
    ],
)
def test_malformed_messages_are_rejected_by_reason(msg, reason):
    images._load_cv_bridge.cache_clear()
    assert reason_of(to_rgb, msg) == reason


def test_the_limit_itself_is_accepted(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 6)
    assert to_rgb(image_msg("mono8", 2, 3, 3, bytes(6))).shape == (2, 3, 3)
    assert reason_of(to_rgb, image_msg("mono8", 1, 7, 7, bytes(7))) == "dimensions"


def test_an_error_names_the_rule_and_what_came():
    with pytest.raises(ImageError, match=r"'rgb8' of height 2 with step 6 must have 12 bytes, got 11"):
        to_rgb(image_msg("rgb8", 2, 2, 6, bytes(11)))


@given(
    encoding=st.sampled_from([*DECODED_ENCODINGS, "mono16", "32FC1", "nv24", ""]),
    height=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    width=st.integers(0, 9) | st.integers(0, 2**32 - 1),
    bytes_per_pixel=st.integers(1, 4),
    padding=st.integers(-2, 5),
    rows_per_row=st.sampled_from([1, 1.5]),
    extra_bytes=st.just(0) | st.integers(-20, 20),
    filling=st.binary(min_size=1, max_size=3),
)
@example("nv12", 2, 2, 1, 1, 1, 0, b"\x80")  # step = size / height
@settings(deadline=None, max_examples=400)
def test_any_message_gives_an_image_or_an_image_error(
    encoding, height, width, bytes_per_pixel, padding, rows_per_row, extra_bytes, filling
):
    step = min(max(width * bytes_per_pixel + padding, 0), 2**32 - 1)
    length = min(max(int(step * height * rows_per_row) + extra_bytes, 0), 1000)
    msg = image_msg(encoding, height, width, step, (filling * length)[:length])
    rgb = rgb_or_reason(to_rgb, msg)
    if isinstance(rgb, str):
        assert rgb in REASONS
        return
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert rgb.copy().size == 3 * height * width  # every byte of a view can be read


def test_what_opencv_raises_becomes_an_image_error(monkeypatch):
    def fail(*_):
        raise cv2.error("assertion failed")

    monkeypatch.setattr(cv2, "cvtColor", fail)
    assert reason_of(to_rgb, packed_msg("bgr8", PIXELS)) == "decode"


# Pixels to messages


@pytest.mark.parametrize(
    ("encoding", "pixels", "step"),
    [
        ("rgb8", PIXELS, 6),
        ("mono8", np.array([[0, 255, 0]], np.uint8), 3),
        ("32FC1", np.array([[0.0, 0.25], [0.5, 1.0], [0.75, 1e-9]], np.float32), 8),
        ("32FC1", np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)[::2, ::-1], 24),  # a strided view
    ],
)
def test_messages_hold_the_pixels_and_the_header(encoding, pixels, step):
    header = Header(frame_id="camera_optical")
    header.stamp.sec, header.stamp.nanosec = 12, 345
    msg = to_image_msg(pixels, encoding, header)
    assert (msg.height, msg.width, msg.encoding, msg.step) == (*pixels.shape[:2], encoding, step)
    assert msg.header == Header(frame_id="camera_optical", stamp=header.stamp)
    assert msg.is_bigendian == (sys.byteorder == "big")
    assert isinstance(msg.data, array.array)
    assert msg.data.typecode == "B"
    np.testing.assert_array_equal(np.frombuffer(msg.data, pixels.dtype).reshape(pixels.shape), pixels)


def test_a_message_keeps_its_pixels_when_the_array_changes():
    pixels = PIXELS.copy()
    msg = to_image_msg(pixels, "rgb8", Header())
    pixels[:] = 0
    np.testing.assert_array_equal(to_rgb(msg), PIXELS)


@pytest.mark.parametrize(
    ("encoding", "pixels", "reason"),
    [
        ("bgr8", PIXELS, "encoding"),
        ("rgb8", PIXELS[..., 0], "dimensions"),
        ("rgb8", PIXELS.astype(np.float32), "dimensions"),
        ("rgb8", np.zeros((2, 2, 4), np.uint8), "dimensions"),
        ("mono8", PIXELS, "dimensions"),
        ("mono8", np.zeros((2, 2), bool), "dimensions"),
        ("mono8", np.zeros(4, np.uint8), "dimensions"),
        ("mono8", np.zeros((0, 4), np.uint8), "dimensions"),
        ("32FC1", np.zeros((2, 2)), "dimensions"),
        ("32FC1", np.zeros((2, 2), ">f4" if sys.byteorder == "little" else "<f4"), "dimensions"),
    ],
)
def test_arrays_that_do_not_fit_their_encoding(encoding, pixels, reason):
    assert reason_of(to_image_msg, pixels, encoding, Header()) == reason
