"""The declared size of JPEG and PNG files, and that files cut short are found."""

import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import ImageError
from eomt_ext_ros.messages.image_headers import declared_size_hw

PIXELS = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (48, 32))
FILES = {
    "png": cv2.imencode(".png", PIXELS)[1].tobytes(),
    "grey png": cv2.imencode(".png", PIXELS[..., 0])[1].tobytes(),
    "jpeg": cv2.imencode(".jpg", PIXELS)[1].tobytes(),
    "grey jpeg": cv2.imencode(".jpg", PIXELS[..., 0])[1].tobytes(),
    "progressive jpeg": cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    "jpeg with restarts": cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes(),
}


def with_segment(jpeg, marker, content):
    """The file with a segment more, straight after its start marker."""
    return jpeg[:2] + marker + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def reason_of(data):
    with pytest.raises(ImageError) as caught:
        declared_size_hw(data)
    return caught.value.reason


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_read(name):
    assert declared_size_hw(FILES[name]) == (32, 48)


@pytest.mark.parametrize("name", FILES)
def test_bytes_after_the_end_are_harmless(name):
    assert declared_size_hw(FILES[name] + bytes(64)) == (32, 48)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_an_error(name):
    data = FILES[name]
    start = 8 if "png" in name else 3
    for length in range(len(data)):
        assert reason_of(data[:length]) == ("decode" if length >= start else "encoding")


def test_the_thumbnail_in_a_jpeg_header_is_not_the_image():
    thumbnail = b"\xff\xd8\xff\xc0\0\x11\x08\0\x01\0\x01\xff\xd9"
    data = with_segment(FILES["jpeg"], b"\xff\xe1", thumbnail)
    assert declared_size_hw(data) == (32, 48)
    assert reason_of(data[:-2]) == "decode"  # the end of the thumbnail is not the end of the image


def test_fill_bytes_and_markers_without_length():
    assert declared_size_hw(with_segment(FILES["jpeg"], b"\xff\x01\xff\xd0\xff\xff\xff\xe1", b"")) == (32, 48)
    assert declared_size_hw(FILES["jpeg"][:2] + b"\xff" * 10_000_000 + FILES["jpeg"][2:]) == (32, 48)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xfe\0\0" * 4 + b"\xff\xd9",  # a length that does not count itself
        b"\xff\xd8\xff\xfe\xff\xff",  # a segment that reaches past the end
        b"\xff\xd8\xff\xc0\0\x11\x08\0",  # ends inside the frame header
        b"\xff\xd8\xff\xda\0\x02\xff\xd9",  # a scan without a frame
        b"\xff\xd8\xff" + b"\xff" * 20,
        b"\xff\xd8" + b"\xff\xd0" * 20_000 + FILES["jpeg"][2:],  # no camera sends as many segments
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIDAT" + bytes(20) + b"IEND\xae\x42\x60\x82",
    ],
)
def test_damaged_headers(data):
    assert reason_of(data) == "decode"


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFF\0\0\0\0WEBP", bytes(12) + FILES["png"]])
def test_other_files(data):
    assert reason_of(data) == "encoding"


def test_the_error_quotes_no_data():
    with pytest.raises(ImageError) as caught:
        declared_size_hw(b"GIF89a")
    assert b"GIF89a".hex() not in str(caught.value)
    assert "GIF" not in str(caught.value)
