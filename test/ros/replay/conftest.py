"""Tiny bags of every kind, written with rosbags."""

import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TYPES = {"raw": IMAGE, "info": "sensor_msgs/msg/CameraInfo"}
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000


@dataclass
class Recorded:
    """A bag that was written, and what is in it: (topic, time in ns, bytes)."""

    path: Path
    messages: list[tuple[str, int, bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return next(file for file in self.path.iterdir() if file.name != "metadata.yaml")


@pytest.fixture(scope="session")
def typestore():
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


@pytest.fixture(scope="session")
def pixels_of():
    """The image of a frame: noise, so that no two are alike and compression does not make them small."""

    def make(index, size_hw=(48, 80)):
        return np.random.default_rng(index).integers(0, 256, (*size_hw, 3), np.uint8)

    return make


@pytest.fixture(scope="session")
def labels_of():
    """The labels of a frame: an obstacle that moves, and void at the top."""

    def make(index, size_hw=(48, 80)):
        labels = np.zeros(size_hw, np.uint8)
        labels[:4] = 255
        labels[12:30, 10 + index : 40 + index] = 1
        return labels

    return make


@pytest.fixture(scope="session")
def serialize(typestore):
    """Serialise an image as ``raw`` (rgb8 or mono8), ``jpeg`` or ``png``, with that format or another."""
    types = typestore.types

    def make(pixels, kind, stamp, frame_id="camera_optical", image_format=None):
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        header = types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)
        if kind == "raw":
            encoding = "rgb8" if pixels.ndim == 3 else "mono8"
            step = pixels[0].size
            msg = types[IMAGE](header, *pixels.shape[:2], encoding, 0, step, pixels.reshape(-1))
            return bytes(typestore.serialize_cdr(msg, IMAGE))
        data = cv2.imencode(f".{kind}", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].reshape(-1)
        return bytes(typestore.serialize_cdr(types[COMPRESSED](header, image_format or kind, data), COMPRESSED))

    return make


@pytest.fixture(scope="session")
def serialize_info(typestore):
    """Serialise the calibration of a camera without distortion."""
    types = typestore.types

    def make(focal_px, size_hw, stamp, frame_id="optical_0"):
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        height, width = size_hw
        k = np.array([focal_px, 0, (width - 1) / 2, 0, focal_px, (height - 1) / 2, 0, 0, 1], np.float64)
        p = np.insert(k, (3, 6, 9), 0.0)
        roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        header = types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)
        r = np.eye(3).reshape(-1)
        msg = types[TYPES["info"]](header, height, width, "plumb_bob", np.zeros(5), k, r, p, 0, 0, roi)
        return bytes(typestore.serialize_cdr(msg, TYPES["info"]))

    return make


@pytest.fixture
def write_bag(tmp_path, typestore):
    """Write messages, each (topic, kind of image, time, bytes), as a bag."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    def write(name, messages, storage="mcap", compression="none"):
        folder = tmp_path / name
        writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        recorded = Recorded(folder)
        with writer:
            connections = {}
            for topic, kind, time_ns, data in messages:
                if topic not in connections:
                    msgtype = TYPES.get(kind, COMPRESSED)
                    connections[topic] = writer.add_connection(topic, msgtype, typestore=typestore)
                writer.write(connections[topic], time_ns, data)
                recorded.messages.append((topic, time_ns, data))
        return recorded

    return write


@pytest.fixture
def drive(write_bag, serialize, pixels_of, labels_of):
    """A drive: frames of one camera or several, each received 5 ns after its stamp, with labels where asked for."""

    def make(
        name="drive",
        frames=6,
        kind="raw",
        storage="mcap",
        compression="none",
        topics=("/camera/image",),
        labels=None,
        size_hw=(48, 80),
        start_ns=START_NS,
    ):
        messages = []
        for index in range(frames):
            stamp = start_ns + index * STEP_NS
            for number, topic in enumerate(topics):
                pixels = pixels_of(index + 100 * number, size_hw)
                messages.append((topic, kind, stamp + 5, serialize(pixels, kind, stamp, f"optical_{number}")))
            if labels:
                messages.append(
                    ("/camera/labels", labels, stamp + 7, serialize(labels_of(index, size_hw), labels, stamp))
                )
        return write_bag(name, messages, storage, compression)

    return make


@pytest.fixture
def read_outputs(typestore):
    """Everything in an annotated bag, read by rosbags itself: {topic: [(time, message)]}."""
    from rosbags.rosbag2 import Reader

    def read(folder):
        found = {}
        with Reader(folder) as reader:
            for connection in reader.connections:
                found[connection.topic] = []
            for connection, time_ns, data in reader.messages():
                msg = typestore.deserialize_cdr(data, connection.msgtype)
                found[connection.topic].append((time_ns, msg))
        return found

    return read


@pytest.fixture
def replay(tiny_model, tmp_path):
    """Run the command on bags; returns its exit status, its folder and what it said."""
    from typer import Typer
    from typer.testing import CliRunner

    from eomt_ext_ros.replay.command import replay as command

    app = Typer()
    app.command()(command)

    def run(*bags, out="out", **options):
        arguments = [str(getattr(bag, "path", bag)) for bag in bags]
        settings = {"image_topic": "/camera/image", "checkpoint": tiny_model, "device": "cpu"} | options
        for name, value in settings.items():
            for item in value if isinstance(value, tuple) else (value,):
                arguments += [f"--{name.replace('_', '-')}", *([] if item is True else [str(item)])]
        folder = tmp_path / out
        result = CliRunner().invoke(app, [*arguments, "--output", str(folder)])
        return SimpleNamespace(status=result.exit_code, folder=folder, text=result.output, exception=result.exception)

    return run


@pytest.fixture
def at_most_a_minute():
    """Interrupt a test that waits for ever."""

    def interrupt(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def readable():
    """Read what can be read of a topic: the bytes of the messages, and the problems."""
    from eomt_ext_core.errors import DatasetError
    from eomt_ext_ros.bags import Bag

    def read(path, limits=None, topic="/camera/image"):
        with Bag(path, limits) as bag:
            found, unread = [], []
            for message in bag.messages([topic]):
                try:
                    found.append(bag.read(message))
                except DatasetError as error:
                    unread.append(str(error))
            return found, bag.problems + unread

    return read
