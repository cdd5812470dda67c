"""Thousands of malformed and adversarial images: each is accounted for, none is answered, and the node goes on."""

import struct
import time
import zlib
from collections import Counter
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from eomt_ext_ros.messages import images
from eomt_ext_ros.messages.images import DECODED_ENCODINGS, MAX_PIXELS

MESSAGES = 3000  # of each transport
OUTPUTS = ("probability", "mask", "overlay", "heatmap", "semantic", "confidence")
BYTES_PER_PIXEL = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4} | dict.fromkeys(
    ("uyvy", "yuv422", "yuyv", "yuv422_yuy2"), 2
)
BAYER = [encoding for encoding in DECODED_ENCODINGS if encoding.startswith("bayer")]
EXTREME_STAMPS = st.builds(
    Time, sec=st.sampled_from([-(2**31), -1, 0, 2**31 - 1]), nanosec=st.sampled_from([0, 1, 10**9, 2**32 - 1])
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)  # what DDS can carry


class Case(NamedTuple):
    """A message and what may become of it: ``rejected/<reason>`` or ``published``."""

    msg: Any
    outcomes: frozenset[str]
    stamp: Time | None = None  # none: newer than all before


def rejected(msg, *reasons):
    return Case(msg, frozenset(f"rejected/{reason}" for reason in reasons))


def raw(encoding, height, width, step=None, size=None):
    """A message whose data fit, where nothing else is said."""
    step = width * BYTES_PER_PIXEL.get(encoding, 1) if step is None else step
    size = step * (height * 3 // 2 if encoding in ("nv12", "nv21") else height) if size is None else size
    msg = Image(encoding=encoding, height=height, width=width, step=step)
    msg.data.frombytes(bytes(range(256)) * (size // 256) + bytes(range(size % 256)))
    return msg


@st.composite
def sound_images(draw):
    """As drivers send them, rows padded or not."""
    encoding = draw(st.sampled_from(DECODED_ENCODINGS))
    height, width = 2 * draw(st.integers(2, 8)), 2 * draw(st.integers(2, 8))
    return raw(encoding, height, width, width * BYTES_PER_PIXEL.get(encoding, 1) + draw(st.integers(0, 1)))


@st.composite
def answerable_images(draw):
    """Odd, but images."""
    sliver = st.builds(raw, st.sampled_from(["rgb8", "mono8"]), st.just(1), st.integers(1, 400))
    msg = draw(sound_images() | sliver)
    msg.header.frame_id = draw(TEXT)
    stamp = draw(st.none() | EXTREME_STAMPS)
    return Case(msg, frozenset({"published"} | ({"rejected/stale"} if stamp else set())), stamp)


@st.composite
def spoiled_images(draw):
    """Sound images with one field changed so that it cannot be true."""
    msg = draw(sound_images())
    size, pixel_bytes = len(msg.data), BYTES_PER_PIXEL.get(msg.encoding, 1)
    field = draw(st.sampled_from(["data", "side", "step", "size", "encoding"]))
    if field == "data":
        del msg.data[:]
        return rejected(msg, "empty")
    if field == "side":
        setattr(msg, draw(st.sampled_from(["height", "width"])), draw(st.just(0) | st.integers(MAX_PIXELS, 2**32 - 1)))
        return rejected(msg, "dimensions")
    if field == "step":
        msg.step = draw(st.integers(0, msg.width * pixel_bytes - 1) | st.integers(2**16, 2**32 - 1))
        return rejected(msg, "step" if msg.step < 2**16 else "size")
    if field == "size":
        if draw(st.booleans()):
            del msg.data[draw(st.integers(1, size - 1)) :]
        else:
            msg.data.extend(range(draw(st.integers(1, 200))))
        return rejected(msg, "size")
    names = st.sampled_from(["", "RGB8", "rgb8 ", "rgb16", "mono16", "32FC1", "8UC2", "é", "\n\x1b[2J", "%s" * 500])
    msg.encoding = draw((names | TEXT).filter(lambda name: name not in DECODED_ENCODINGS))
    return rejected(msg, "encoding")


@st.composite
def misshapen_images(draw):
    """Images in a size that their encoding does not have."""
    odd, small = 2 * draw(st.integers(1, 8)) + 1, draw(st.integers(1, 2))
    shapes = [
        *((encoding, 2 * side, odd) for encoding in ("uyvy", "yuyv", "nv12", "nv21") for side in (1, 2)),
        *((encoding, odd, 4) for encoding in ("nv12", "nv21")),
        *((encoding, *sides) for encoding in BAYER for sides in ((small, 8), (8, small))),
    ]
    return rejected(raw(*draw(st.sampled_from(shapes))), "dimensions")


def encoded(extension, *options, shape=(24, 32, 3)):
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, *shape[2:]), np.uint8), shape[1::-1])
    return cv2.imencode(extension, pixels, options)[1].tobytes()


def png(height, width, rows=b""):
    """A file with right checksums, whatever it declares: 1 bit a pixel."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0),
        b"IDAT": zlib.compress(rows, 1),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


JPEGS = [
    encoded(".jpg"),
    encoded(".jpg", shape=(24, 32)),
    encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
]
PNGS = [encoded(".png"), encoded(".png", shape=(24, 32)), png(16, 16, bytes(3 * 16))]
BOMB = png(16384, 16384, bytes(16384 * (1 + 16384 // 8)))  # 33 kB, 805 MB as pixels
OTHERS = [
    encoded(".bmp"),
    encoded(".webp"),
    encoded(".tiff"),
    b"GIF89a",
    b"\0" * 64,
    b"\xff\xd8",
    b"%PDF-1.7",
    b"\x89PNG",
]


def compressed(data, form="jpeg"):
    msg = CompressedImage(format=form)
    msg.data.frombytes(data)
    return msg


@st.composite
def answerable_files(draw):
    """Odd, but images."""
    msg = compressed(draw(st.sampled_from(JPEGS + PNGS)) + draw(st.binary(max_size=8)), draw(TEXT))
    msg.header.frame_id = draw(TEXT)
    stamp = draw(st.none() | EXTREME_STAMPS)
    return Case(msg, frozenset({"published"} | ({"rejected/stale"} if stamp else set())), stamp)


@st.composite
def spoiled_files(draw):
    """Files that are cut short, of another kind, or that declare what they do not hold."""
    file, form = draw(st.sampled_from(JPEGS + PNGS)), draw(st.sampled_from(["jpeg", "png", ""]) | TEXT)
    how = draw(st.sampled_from(["empty", "other", "cut", "side", "bomb"]))
    if how == "empty":
        return rejected(compressed(b"", form), "empty")
    if how == "other":
        noise = st.binary(min_size=1, max_size=64).filter(
            lambda data: not data.startswith((b"\xff\xd8\xff", b"\x89PNG"))
        )
        return rejected(compressed(draw(st.sampled_from(OTHERS) | noise), form), "encoding")
    if how == "cut":
        return rejected(compressed(file[: draw(st.integers(8, len(file) - 1))], form), "decode")
    if how == "bomb":
        return rejected(compressed(BOMB, form), "dimensions")
    sides = draw(
        st.permutations([draw(st.just(0) | st.integers(MAX_PIXELS + 1, 2**31 - 1)), draw(st.integers(1, 2**31 - 1))])
    )
    return rejected(compressed(png(*sides), form), "dimensions")


@st.composite
def damaged_files(draw):
    """Files with some bytes changed after their first eight: whether that shows depends on where they are.

    The marker of a JPEG frame is among them: changed, it may name a process that is not read (an encoding).
    """
    data = bytearray(draw(st.sampled_from(JPEGS + PNGS)))
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(8, len(data) - 1))] = draw(st.integers(0, 255))
    outcomes = {"published", "rejected/decode", "rejected/dimensions", "rejected/encoding"}
    return Case(compressed(bytes(data)), frozenset(outcomes))


CASES = {
    "raw": st.one_of(*[spoiled_images() for _ in range(6)], misshapen_images(), answerable_images()),
    "compressed": st.one_of(*[spoiled_files() for _ in range(6)], damaged_files(), answerable_files()),
}


class Account:
    """Hands messages to a node one at a time, and holds it to one permitted outcome for each."""

    def __init__(self, rig):
        self.rig, self.statistics = rig, rig.node.statistics[""]
        self.expected, self.answered = Counter(), []

    def deliver(self, msg):
        self.rig.send(msg)
        until_s = time.monotonic() + self.rig.timeout_s
        while not self.settled():  # the executor, which would sleep, has nothing to do with it
            assert time.monotonic() < until_s, self.statistics.snapshot()
            time.sleep(2e-4)

    def settled(self):
        counts = self.statistics.counts
        return counts.total() == 2 * counts["received"]

    def check_many(self, cases, count):
        @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
        @given(cases)
        def every_message_has_a_permitted_outcome(case):
            self.check(case)

        every_message_has_a_permitted_outcome()

    def check(self, case):
        before, number = self.statistics.counts, self.expected["received"]
        case.msg.header.stamp = case.stamp or Time(sec=1000 + number)
        self.deliver(case.msg)
        (outcome,) = self.statistics.counts - before - Counter(["received"])
        assert outcome in case.outcomes, self.statistics.snapshot()
        self.expected += Counter(["received", outcome])
        if outcome == "published":
            self.answered.append(case.msg.header)
            self.rig.spin_until(self.all_heard, "the outputs")

    def all_heard(self):
        return all(len(self.rig.messages(name)) >= len(self.answered) for name in OUTPUTS)

    def close(self):
        """Hold the node to what it was sent: its diagnostics, and an output for each answer and no other."""
        status = self.rig.diagnostics()["camera"]
        told = {item.key: int(item.value) for item in status.values if item.key in self.expected or "/" in item.key}
        assert told == self.expected
        for name in OUTPUTS:
            assert [msg.header for msg in self.rig.messages(name)] == self.answered, name


@pytest.mark.parametrize("transport", CASES)
def test_malformed_images_are_counted_not_answered_and_survived(stand_in, transport, monkeypatch):
    monkeypatch.setattr(images, "_load_cv_bridge", lambda: (None, "left out"))  # it may know more encodings
    rig = stand_in(image_transport=transport)
    rig.start(*OUTPUTS)
    account = Account(rig)
    account.check_many(CASES[transport], MESSAGES)
    good = raw("rgb8", 48, 80) if transport == "raw" else compressed(JPEGS[0])
    good.header.frame_id = "camera_optical"
    account.check(Case(good, frozenset({"published"})))
    assert account.expected["received"] > MESSAGES
    account.close()


@pytest.mark.parametrize("length", [0, 4, 30, -4])
def test_bytes_that_are_no_message_do_not_reach_the_node(stand_in, image_msg, length):
    rig = stand_in()
    rig.start("probability")
    whole = serialize_message(image_msg(1))
    rig.publishers[""][0].publish(whole[:length])
    assert rig.answer(image_msg(2)).header == image_msg(2).header
    assert rig.node.counts == {"received": 1, "published": 1}


class LoudCvBridge:
    """Takes every encoding for one of bytes, refuses every image, and quotes it."""

    def encoding_to_dtype_with_channels(self, encoding):
        return "uint8", 1

    def imgmsg_to_cv2(self, msg, desired_encoding):
        raise RuntimeError(f"Unrecognized image encoding [{msg.encoding}], data {bytes(msg.data)}")


EVIL = "\x1b[2Jevil" * 10**6


@pytest.mark.parametrize(
    ("msg", "cv_bridge", "reason"),
    [
        (raw(EVIL, 4, 4), None, "encoding"),
        (raw(EVIL, 4, 4), LoudCvBridge(), "encoding"),
        (raw(EVIL, 4, 4, step=3), LoudCvBridge(), "step"),
        (raw(EVIL, 4, 4, size=15), LoudCvBridge(), "size"),
        (compressed(b"GIF89a\x1b[2J", EVIL), None, "encoding"),
        (compressed(JPEGS[0][:100], EVIL), None, "decode"),
    ],
    ids=["no cv_bridge", "cv_bridge", "step", "size", "format", "file"],
)
def test_what_a_message_says_is_told_in_short(stand_in, msg, cv_bridge, reason, monkeypatch, capfd):
    monkeypatch.setattr(images, "_load_cv_bridge", lambda: (cv_bridge, "left out"))
    rig = stand_in(image_transport="raw" if isinstance(msg, Image) else "compressed")
    rig.start("probability")
    rig.send(msg)
    rig.spin_until_counted(f"rejected/{reason}")
    told, logged = rig.diagnostics()["camera"].message, capfd.readouterr().err
    assert len(told) < 1000
    assert len(logged) < 4000
    assert "\x1b[2J" not in told + logged
    assert "474946" not in told + logged, "no data, in hexadecimal neither"
