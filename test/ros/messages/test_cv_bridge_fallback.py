"""Encodings that are left to cv_bridge, with a stand-in for it: it is seldom where the tests run."""

import sys
import types
from itertools import product

import numpy as np
import pytest

from eomt_ext_core.errors import ImageError
from eomt_ext_ros.messages import images
from eomt_ext_ros.messages.images import to_rgb

pytest.importorskip("sensor_msgs")
from sensor_msgs.msg import Image

PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def image_msg(encoding, height, width, step, data):
    msg = Image(height=height, width=width, encoding=encoding, step=step)
    msg.data.frombytes(data)
    return msg


def reason_of(msg):
    with pytest.raises(ImageError) as caught:
        to_rgb(msg)
    return caught.value.reason


DTYPES = {"mono16": ("uint16", 1), "rgb16": ("uint16", 3), "bgra16": ("uint16", 4), "32FC1": ("float32", 1)}


def dtype_and_channels(encoding):
    if encoding not in DTYPES:
        raise TypeError(f"Unrecognized image encoding [{encoding}]")  # a CvBridgeError is one
    return DTYPES[encoding]


class FakeCvBridge(types.ModuleType):
    """A cv_bridge that counts its imports and returns, or raises, what a test says."""

    def __init__(self, result):
        super().__init__("cv_bridge")
        self.result, self.imports = result, 0

    def __getattr__(self, name):
        if name != "CvBridge":
            raise AttributeError(name)
        self.imports += 1
        return self.make

    def make(self):
        def imgmsg_to_cv2(msg, desired_encoding):
            assert desired_encoding == "rgb8"
            if isinstance(self.result, Exception):
                raise self.result
            return self.result(msg) if callable(self.result) else self.result

        return types.SimpleNamespace(imgmsg_to_cv2=imgmsg_to_cv2, encoding_to_dtype_with_channels=dtype_and_channels)


def read_as_cv_bridge_does(msg):
    """Rows of whole pixels, however long they are, in this machine's byte order; to 8 bits."""
    name, channels = DTYPES[msg.encoding]
    dtype = np.dtype(name).newbyteorder(">" if msg.is_bigendian else "<")
    assert dtype.isnative, "NumPy 2 has no ndarray.newbyteorder, which cv_bridge calls"
    columns = int(msg.step / dtype.itemsize / channels)
    pixels = np.ndarray((msg.height, columns, channels), dtype, msg.data)[:, : msg.width]
    order = [2, 1, 0] if msg.encoding.startswith("bgr") else [0, 1, 2] if channels > 2 else [0, 0, 0]
    return (pixels[..., order] >> 8).astype(np.uint8)


@pytest.fixture
def cv_bridge(monkeypatch):
    """Puts a module, or None for no module, in the place of cv_bridge."""
    yield lambda module: (images._load_cv_bridge.cache_clear(), monkeypatch.setitem(sys.modules, "cv_bridge", module))
    images._load_cv_bridge.cache_clear()


def mono16_msg():
    return image_msg("mono16", 2, 2, 4, bytes(8))


def test_cv_bridge_is_imported_once_and_only_when_needed(cv_bridge):
    fake = FakeCvBridge(PIXELS)
    cv_bridge(fake)
    to_rgb(image_msg("bgr8", 2, 2, 6, bytes(12)))
    assert fake.imports == 0
    for _ in range(3):
        np.testing.assert_array_equal(to_rgb(mono16_msg()), PIXELS)
    assert fake.imports == 1


def deep_msg(encoding, rgb8, padding, is_bigendian):
    """A message of 16 bit channels whose upper bytes are the pixels, its rows padded with bytes of 99."""
    height, width = rgb8.shape[:2]
    channels = {"mono16": [0], "rgb16": [0, 1, 2], "bgra16": [2, 1, 0, 1]}[encoding]
    deep = rgb8[..., channels].astype(np.uint16) * 257
    rows = deep.astype(deep.dtype.newbyteorder(">" if is_bigendian else "<")).reshape(height, -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    msg = image_msg(encoding, height, width, padded.shape[1], padded.tobytes())
    msg.is_bigendian = is_bigendian
    return msg


def test_padding_and_byte_order_are_none_of_cv_bridges_business(cv_bridge):
    cv_bridge(FakeCvBridge(read_as_cv_bridge_does))
    check_padding_and_byte_order()


def test_the_real_cv_bridge_gets_all_pixels_right():
    pytest.importorskip("cv_bridge.boost.cv_bridge_boost", reason="needs cv_bridge", exc_type=ImportError)
    images._load_cv_bridge.cache_clear()
    check_padding_and_byte_order()


def check_padding_and_byte_order():
    rgb8 = np.random.default_rng(0).integers(0, 256, (12, 64, 3), np.uint8)
    for encoding, padding, is_bigendian in product(["mono16", "rgb16", "bgra16"], [0, 1, 2, 6, 16], [0, 1, 255]):
        expected = rgb8[..., [0, 0, 0]] if encoding == "mono16" else rgb8
        got = to_rgb(deep_msg(encoding, rgb8, padding, is_bigendian))
        np.testing.assert_array_equal(got, expected, f"{encoding}, padding {padding}, big-endian {is_bigendian}")


@pytest.mark.parametrize("encoding", ["nv24", "i420", "RGB8", "jpeg", ""])
def test_unknown_encoding_is_refused_at_any_size(cv_bridge, encoding):
    cv_bridge(FakeCvBridge(AssertionError("called")))
    assert reason_of(image_msg(encoding, 4, 4, 4, bytes(48))) == "encoding"


def test_missing_cv_bridge_error_names_encoding_and_fix(cv_bridge):
    cv_bridge(None)
    with pytest.raises(ImageError, match=r"'mono16' needs cv_bridge .*rgb8.*install a cv_bridge.*publish rgb8") as e:
        to_rgb(mono16_msg())
    assert e.value.reason == "encoding"


def test_broken_cv_bridge_counts_as_missing(cv_bridge):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise SystemError("built for another NumPy")

    cv_bridge(Broken("cv_bridge"))
    with pytest.raises(ImageError, match="SystemError: built for another NumPy"):
        to_rgb(mono16_msg())


def test_what_cv_bridge_raises_becomes_an_image_error(cv_bridge):
    cv_bridge(FakeCvBridge(RuntimeError("[32FC1] is not a color format")))
    assert reason_of(image_msg("32FC1", 1, 1, 4, bytes(4))) == "encoding"


@pytest.mark.parametrize(
    "result", [PIXELS[:1], PIXELS[..., 0], PIXELS.astype(np.uint16), None], ids=["rows", "grey", "uint16", "None"]
)
def test_what_cv_bridge_returns_is_checked(cv_bridge, result):
    cv_bridge(FakeCvBridge(result))
    assert reason_of(mono16_msg()) == "decode"


@pytest.mark.parametrize(
    ("msg", "reason"),
    [
        (image_msg("mono16", 2, 2, 4, bytes(7)), "size"),
        (image_msg("mono16", 2, 2, 3, bytes(6)), "step"),
        (image_msg("rgb16", 2, 2, 6, bytes(12)), "step"),
    ],
)
def test_cv_bridge_never_sees_a_malformed_message(cv_bridge, msg, reason):
    cv_bridge(FakeCvBridge(AssertionError("called")))
    assert reason_of(msg) == reason
