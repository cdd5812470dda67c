"""Encodings that are left to cv_bridge, with a stand-in for it: it is seldom where the tests run."""

import sys
import types

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
            return self.result

        return types.SimpleNamespace(imgmsg_to_cv2=imgmsg_to_cv2)


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


def test_without_cv_bridge_the_error_names_the_encoding_and_the_ways_out(cv_bridge):
    cv_bridge(None)
    with pytest.raises(
        ImageError, match=r"'mono16' is not decoded here .*rgb8.*install a cv_bridge.*publish rgb8"
    ) as e:
        to_rgb(mono16_msg())
    assert e.value.reason == "encoding"


def test_a_cv_bridge_that_breaks_on_import_is_as_good_as_none(cv_bridge):
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
    [(image_msg("mono16", 2, 2, 4, bytes(7)), "size"), (image_msg("mono16", 2, 2, 1, bytes(2)), "step")],
)
def test_cv_bridge_never_sees_a_malformed_message(cv_bridge, msg, reason):
    cv_bridge(FakeCvBridge(AssertionError("called")))
    assert reason_of(msg) == reason
