"""What image files declare, that files cut short are found, and that none asks for too much."""

import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images.formats import read_header

PIXELS = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (48, 32))
CLEAR = cv2.cvtColor(PIXELS, cv2.COLOR_BGR2BGRA)
LOSSY, PROGRESSIVE = [cv2.IMWRITE_WEBP_QUALITY, 70], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]


def encoded(suffix, pixels=PIXELS, options=()):
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


FILES = {
    "png": encoded(".png"),
    "grey png": encoded(".png", PIXELS[..., 0]),
    "png with alpha": encoded(".png", CLEAR),
    "jpeg": encoded(".jpg"),
    "grey jpeg": encoded(".jpg", PIXELS[..., 0]),
    "progressive jpeg": encoded(".jpg", options=PROGRESSIVE),
    "grey progressive jpeg": encoded(".jpg", PIXELS[..., 0], PROGRESSIVE),
    "jpeg with restarts": encoded(".jpg", options=[cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
    "webp": encoded(".webp"),
    "lossy webp": encoded(".webp", options=LOSSY),
    "webp with alpha": encoded(".webp", CLEAR, LOSSY),
    "bmp": encoded(".bmp"),
    "grey bmp": encoded(".bmp", PIXELS[..., 0]),
}


def with_segment(jpeg, marker, content):
    """The file with a segment more, straight after its start marker."""
    return jpeg[:2] + marker + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def size_hw(data):
    header = read_header(data)
    return header.height, header.width


def reason_of(data):
    with pytest.raises(ImageError) as caught:
        read_header(data)
    return caught.value.reason


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_read(name):
    assert size_hw(FILES[name]) == (32, 48)


@pytest.mark.parametrize("name", FILES)
def test_bytes_after_the_end_are_harmless(name):
    assert size_hw(FILES[name] + bytes(64)) == (32, 48)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_an_error(name):
    data = FILES[name]
    start = {"png": 8, "webp": 12, "bmp": 2}.get(next((kind for kind in ("png", "webp", "bmp") if kind in name), ""), 3)
    for length in range(len(data)):
        assert reason_of(data[:length]) == ("decode" if length >= start else "encoding")


def test_the_thumbnail_in_a_jpeg_header_is_not_the_image():
    thumbnail = b"\xff\xd8\xff\xc0\0\x11\x08\0\x01\0\x01\xff\xd9"
    data = with_segment(FILES["jpeg"], b"\xff\xe1", thumbnail)
    assert size_hw(data) == (32, 48)
    assert reason_of(data[:-2]) == "decode"  # the end of the thumbnail is not the end of the image


def test_fill_bytes_and_markers_without_length():
    assert size_hw(with_segment(FILES["jpeg"], b"\xff\x01\xff\xd0\xff\xff\xff\xe1", b"")) == (32, 48)
    assert size_hw(FILES["jpeg"][:2] + b"\xff" * 10_000_000 + FILES["jpeg"][2:]) == (32, 48)


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


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFF\0\0\0\0WAVE", bytes(12) + FILES["png"]])
def test_other_files(data):
    assert reason_of(data) == "encoding"


def test_the_error_quotes_no_data():
    for data in (b"GIF89a", b"nonsense"):
        with pytest.raises(ImageError) as caught:
            read_header(data)
        assert data.hex() not in str(caught.value)
        assert data.decode() not in str(caught.value)
