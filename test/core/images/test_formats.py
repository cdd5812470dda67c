"""What image files declare, that files cut short are found, and that none asks for too much."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from eomt_ext_core.errors import ImageError
from eomt_ext_core.images import ImageLimits
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


def with_size(jpeg, height, width, marker=b"\xff\xc2"):
    at = jpeg.index(marker) + 5
    return jpeg[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[at + 4 :]


def test_a_progressive_photograph_of_8192_pixels_a_side_is_allowed():
    colour = encoded(
        ".jpg", options=[*PROGRESSIVE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    )
    header = read_header(with_size(colour, 8192, 8192))
    assert (header.kind, header.height, header.width, header.scan_blocks) == ("JPEG", 8192, 8192, 14 << 20)
    with pytest.raises(ImageError, match="must have at most") as caught:
        read_header(with_size(colour, 8192, 8192), ImageLimits(max_scan_blocks=(14 << 20) - 1))
    assert caught.value.reason == "work"


def test_blocks_are_those_of_the_sampled_components():
    # 48 x 32: 6 x 4 blocks of luma; chroma at half the size in each direction, 3 x 2.
    assert read_header(encoded(".jpg")).scan_blocks == 24 + 2 * 6
    assert read_header(encoded(".jpg", PIXELS[..., 0])).scan_blocks == 24
    # libjpeg's script: luma in six scans, the first and the eighth with chroma; each chroma in five.
    assert read_header(encoded(".jpg", options=PROGRESSIVE)).scan_blocks == 6 * 24 + 2 * 5 * 6 - 2 * 6


def interleaved_not(count):
    """A sequential file of three components, each scan of one of them and without data."""
    frame = b"\xff\xc0\0\x11\x08\x20\0\x20\0\x03" + b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\x12\x34"
    return b"\xff\xd8" + frame + scan * count + b"\xff\xd9"


def test_scans_of_a_sequential_image_count_too():
    assert read_header(interleaved_not(3)).scan_blocks == 3 << 20
    assert reason_of(interleaved_not(17)) == "work"
    assert reason_of(interleaved_not(3)[:-2]) == "decode"


@pytest.mark.parametrize("process", [3, 5, 9, 10, 15])
def test_other_processes_of_jpeg_are_refused(process):
    data = FILES["jpeg"].replace(b"\xff\xc0", bytes([0xFF, 0xC0 + process]), 1)
    with pytest.raises(ImageError, match=f"got process {process}"):
        read_header(data)


def chunk(name, body=b""):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(height, width, depth=8, colour=2):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_header(60_000, 60_000) + chunk(b"IEND"), "dimensions"),
        (png_header(8192, 8193) + chunk(b"IEND"), "dimensions"),
        (png_header(8192, 8192, 16) + chunk(b"IEND"), "dimensions"),  # of 402 million bytes
        (png_header(0, 5) + chunk(b"IEND"), "dimensions"),
        (png_header(5, 5, 3) + chunk(b"IEND"), "decode"),
        (png_header(5, 5, 8, 7) + chunk(b"IEND"), "decode"),
        (png_header(5, 5) + chunk(b"tEXt") * (1 << 17) + chunk(b"IEND"), "decode"),
        (png_header(5, 5) + chunk(b"acTL", bytes(8)) + chunk(b"IEND"), "encoding"),
        (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(9), "encoding"),
        (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\0\xff\xff\0", "dimensions"),
        (b"RIFF\x16\0\0\0WEBPABCD\x0a\0\0\0" + bytes(10), "decode"),
        (b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 8, 8, 1, 8, 1) + bytes(99), "encoding"),
        (b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 30_000, -30_000, 1, 24, 0) + bytes(99), "decode"),
        (b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, -5, 5, 1, 24, 0) + bytes(99), "dimensions"),
    ],
)
def test_excessive_or_absurd_headers_are_refused(data, reason):
    assert reason_of(data) == reason


@pytest.mark.parametrize("colour", [2, 6])
def test_png_of_8192_pixels_a_side_is_allowed(colour):
    assert read_header(png_header(8192, 8192, colour=colour) + chunk(b"IEND")).height == 8192


def test_only_the_kinds_that_are_accepted():
    with pytest.raises(ImageError, match=r"must be JPEG or PNG, got a BMP: save it as PNG"):
        read_header(FILES["bmp"], kinds=("JPEG", "PNG"))
