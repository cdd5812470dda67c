"""JPEG and PNG messages to pixels, and that no malformed one does worse than an ImageError."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_ext_core.errors import ImageError
from eomt_ext_ros.messages.images import decompress, lost_colours, to_rgb

pytest.importorskip("sensor_msgs")
from sensor_msgs.msg import CompressedImage, Image

SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (48, 32))


def compressed_msg(data, image_format="jpeg"):
    msg = CompressedImage(format=image_format)
    msg.data.frombytes(bytes(data))
    return msg


def encoded(pixels_rgb, extension, *options):
    return cv2.imencode(extension, np.ascontiguousarray(pixels_rgb[..., ::-1]), options)[1].tobytes()


def reason_of(msg):
    with pytest.raises(ImageError) as caught:
        decompress(msg)
    return caught.value.reason


def test_png_is_lossless():
    np.testing.assert_array_equal(
        decompress(compressed_msg(encoded(SMOOTH, ".png"), "rgb8; png compressed bgr8")), SMOOTH
    )


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_jpeg_keeps_the_colours(options):
    rgb = decompress(compressed_msg(encoded(SMOOTH, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100, *options)))
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - SMOOTH).mean() < 3  # swapped channels are off by 60


def test_grey_and_16_bit_files_become_rgb8():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    rgb = decompress(compressed_msg(cv2.imencode(".png", grey)[1].tobytes()))
    np.testing.assert_array_equal(rgb, np.dstack([grey] * 3))
    deep = SMOOTH.astype(np.uint16) * 256 + 130
    np.testing.assert_array_equal(decompress(compressed_msg(encoded(deep, ".png"))), SMOOTH)


def test_red_and_blue_swapped_before_compression_are_swapped_back():
    data = encoded(SMOOTH[..., ::-1], ".png")
    np.testing.assert_array_equal(decompress(compressed_msg(data, "rgb8; png compressed rgb8")), SMOOTH)


# Bayer: what image_transport's publisher writes for it, in its order. ROS 1 and up to Foxy; Humble to Jazzy, whose data
# are grey, and others'; Kilted with jpeg_compress_bayer; all of them; a publisher that debayers by itself.
BAYER_JPEG_FORMATS = ["{}; jpeg compressed ", "{}; jpeg compressed mono8", "{0}; jpeg compressed {0}"]


def mosaic_of(rgb, pattern):
    mosaic = np.empty(rgb.shape[:2], rgb.dtype)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return mosaic


def debayered(mosaic, pattern):
    height, width = mosaic.shape
    msg = Image(height=height, width=width, encoding=f"bayer_{pattern}8", step=width)
    msg.data.frombytes(mosaic.tobytes())
    return to_rgb(msg)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_bayer_png_is_debayered(pattern, bits):
    mosaic = mosaic_of(SMOOTH, pattern)
    stored = mosaic if bits == 8 else mosaic.astype(np.uint16) * 256 + 130
    msg = compressed_msg(cv2.imencode(".png", stored)[1], f"bayer_{pattern}{bits}; png compressed ")
    rgb = decompress(msg)
    np.testing.assert_array_equal(rgb, debayered(mosaic, pattern))
    assert np.abs(rgb[2:-2, 2:-2].astype(int) - SMOOTH[2:-2, 2:-2]).mean() < 6  # as grey they are off by 60
    assert lost_colours(msg) == ""


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("image_format", BAYER_JPEG_FORMATS)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_bayer_jpeg_is_debayered(pattern, image_format, bits):
    mosaic = mosaic_of(SMOOTH, pattern)
    data = cv2.imencode(".jpg", mosaic, (cv2.IMWRITE_JPEG_QUALITY, 100))[1]
    rgb = decompress(compressed_msg(data, image_format.format(f"bayer_{pattern}{bits}")))
    assert np.abs(rgb.astype(int) - debayered(mosaic, pattern)).mean() < 2


def test_grey_jpeg_of_bayer_camera_reports_lost_colours():
    grey = cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2GRAY)
    data = cv2.imencode(".jpg", grey, (cv2.IMWRITE_JPEG_QUALITY, 100))[1]
    msg = compressed_msg(data, "bayer_rggb8; jpeg compressed mono8")
    assert np.abs(decompress(msg).astype(int) - grey[..., None]).mean() < 3
    assert "converted the colours to grey before the compression (format 'bayer_rggb8;" in lost_colours(msg)


@pytest.mark.parametrize(
    ("image_format", "is_lost"),
    [
        ("yuv422; jpeg compressed mono8", True),
        ("mono8; jpeg compressed mono8", False),
        ("bayer_rggb8; jpeg compressed ", False),
        ("bayer_rggb8; jpeg compressed bayer_rggb8", False),
        ("rgb8; jpeg compressed bgr8", False),
        ("jpeg", False),
        ("", False),
    ],
)
def test_colours_are_lost_where_a_format_says_so(image_format, is_lost):
    assert bool(lost_colours(CompressedImage(format=image_format))) == is_lost


def test_a_raw_image_loses_no_colours():
    assert lost_colours(Image(encoding="bayer_rggb8")) == ""


@pytest.mark.parametrize("target", ["bgr8", "rgb8"])
def test_colours_named_as_mosaic_are_not_debayered(target):
    data = encoded(SMOOTH if target == "bgr8" else SMOOTH[..., ::-1], ".png")
    np.testing.assert_array_equal(decompress(compressed_msg(data, f"bayer_grbg8; png compressed {target}")), SMOOTH)


@pytest.mark.parametrize("image_format", [*BAYER_JPEG_FORMATS, "{}; png compressed ", "{}"])
def test_colours_that_contradict_a_format_are_refused(image_format):
    msg = compressed_msg(encoded(SMOOTH, ".png"), image_format.format("bayer_rggb8"))
    with pytest.raises(ImageError, match=r"a Bayer mosaic has one channel, got 3: .* \(format 'bayer_rggb8") as caught:
        decompress(msg)
    assert caught.value.reason == "encoding"


def test_one_channel_named_as_mosaic_is_debayered():
    mosaic = mosaic_of(SMOOTH, "rggb")
    msg = compressed_msg(cv2.imencode(".png", mosaic)[1], "bayer_rggb8; png compressed bgr8")
    np.testing.assert_array_equal(decompress(msg), debayered(mosaic, "rggb"))


@pytest.mark.parametrize("encoding", ["bayer_rggb12", "bayer_rgbw8", "bayer8", "bayer"])
def test_an_unknown_mosaic_is_refused(encoding):
    data = cv2.imencode(".png", mosaic_of(SMOOTH, "rggb"))[1]
    assert reason_of(compressed_msg(data, f"{encoding}; png compressed ")) == "encoding"


def test_a_compressed_mosaic_too_small_to_interpolate_is_refused():
    data = cv2.imencode(".png", np.ones((2, 8), np.uint8))[1]
    assert reason_of(compressed_msg(data, "bayer_rggb8; png compressed ")) == "dimensions"


def test_an_exif_orientation_does_not_turn_the_image():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + bytes.fromhex("011200030000000100060000") + bytes(4)  # 6: quarter turn
    jpeg = encoded(SMOOTH, ".jpg")
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (48, 32, 3)
    assert decompress(compressed_msg(turned)).shape == (32, 48, 3)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_trailing_bytes_are_harmless(extension):
    data = encoded(SMOOTH, extension)
    np.testing.assert_array_equal(decompress(compressed_msg(data + bytes(64))), decompress(compressed_msg(data)))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_every_truncation_is_an_error(extension):
    data = encoded(SMOOTH[:8, :8], extension)
    for length in range(1, len(data)):
        assert reason_of(compressed_msg(data[:length])) in {"decode", "encoding"}


@given(
    position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), extension=st.sampled_from([".jpg", ".png"])
)
@settings(deadline=None, max_examples=150)
def test_corrupt_files_give_an_image_or_an_image_error(position, value, extension):
    data = bytearray(encoded(SMOOTH, extension))
    data[int(position * len(data))] = value
    try:
        rgb = decompress(compressed_msg(data))
    except ImageError:
        return
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    assert rgb.dtype == np.uint8


@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xda", b"\x89PNG\r\n\x1a\n"]), st.binary(max_size=60))
@settings(deadline=None, max_examples=150)
def test_noise_is_an_error(start, noise):
    assert reason_of(compressed_msg(start + noise)) in {"empty", "decode", "encoding", "dimensions"}


def test_a_decompression_bomb_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    png = bytearray(encoded(SMOOTH, ".png"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    assert reason_of(compressed_msg(png)) == "dimensions"
    jpeg = bytearray(encoded(SMOOTH, ".jpg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = (65_535).to_bytes(2, "big") * 2
    assert reason_of(compressed_msg(jpeg)) == "dimensions"
    jpeg[frame + 5 : frame + 9] = bytes(4)
    assert reason_of(compressed_msg(jpeg)) == "dimensions"
    scans = bytearray(encoded(SMOOTH, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    frame = scans.index(b"\xff\xc2")
    scans[frame + 5 : frame + 9] = (8192).to_bytes(2, "big") * 2
    scans[-2:-2] = scans[scans.rindex(b"\xff\xc4") : -2] * 1000
    assert reason_of(compressed_msg(scans)) == "work"


@pytest.mark.parametrize("data", [b"\0" * 12 + encoded(SMOOTH, ".png"), encoded(SMOOTH, ".bmp"), b"{}"])
def test_other_compressions_are_named(data):
    with pytest.raises(ImageError, match=r"must be JPEG or PNG.*16UC1; compressedDepth png") as caught:
        decompress(compressed_msg(data, "16UC1; compressedDepth png"))
    assert caught.value.reason == "encoding"


def test_no_compressed_data():
    assert reason_of(CompressedImage(format="jpeg")) == "empty"


@pytest.mark.parametrize("result", [None, SMOOTH[1:], SMOOTH.astype(np.uint16)], ids=["None", "shape", "dtype"])
def test_what_the_decoder_returns_is_checked(monkeypatch, result):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: result)
    assert reason_of(compressed_msg(encoded(SMOOTH, ".png"))) == "decode"


def test_what_opencv_raises_becomes_an_image_error(monkeypatch):
    def fail(*_):
        raise cv2.error("assertion failed")

    monkeypatch.setattr(cv2, "imdecode", fail)
    assert reason_of(compressed_msg(encoded(SMOOTH, ".png"))) == "decode"
