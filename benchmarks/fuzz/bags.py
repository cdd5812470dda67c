"""Recorded bags of five kinds of storage: flipped, cut, rearranged, and made to take memory, time or frames.

Most go through the replay with an engine that costs nothing, a few through the whole command. A replay that ends with
exit code 0 and without one of the frames is a broken rule.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz.case import Case

PRELOAD = ("torch", "rosbags.rosbag2", "imageio_ffmpeg", "eomt_ext_core.cli", "eomt_ext_ros.replay.command")
FORBIDDEN_EVENTS = ("pickle.find_class",)

TOPIC, OTHER = "/camera/image", "/other/image"
FRAMES = 6
EVERY_WHOLE = 25  # so many cases with the engine that costs nothing, then one with the command and a network
STORAGES = ("sqlite3", "sqlite3 file", "mcap", "mcap chunks", "messages")
_START_NS = 1_700_000_000_000_000_000
_MAGIC = b"\x89MCAP0\r\n"

Mutation = Callable[[Path, random.Random], str | None]
"""Changes the bag in a folder; returns ``"error"`` if something is lost in any case."""


# -- bags as they are recorded ----------------------------------------------------------------------------------------


def _messages() -> list[tuple[str, int, bytes]]:
    """Topic, time and bytes: frames that no compression makes small, of two cameras."""
    from eomt_ext_ros.bags.messages import header_of, serialize_image

    noise = np.random.default_rng(0)
    found = []
    for index in range(FRAMES):
        for topic in (TOPIC, OTHER):
            stamp = _START_NS + index * 100_000_000
            pixels = noise.integers(0, 256, (24, 40, 3), np.uint8)
            found.append((topic, stamp + 5, serialize_image(pixels, "rgb8", header_of(stamp, "optical"))))
    return found


def _write_intact(storage: str, folder: Path, chance: random.Random) -> None:
    """Write a whole bag as the recorder, or others, write it."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    from eomt_ext_ros.bags.messages import IMAGE, typestore

    if storage == "mcap chunks" and chance.random() < 0.5:
        folder.mkdir()
        (folder / "other.mcap").write_bytes(_mcap(_messages(), "lz4"))
        return
    is_sqlite = storage.startswith("sqlite3") or (storage == "messages" and chance.random() < 0.5)
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3 if is_sqlite else StoragePlugin.MCAP)
    modes = {"sqlite3 file": "FILE", "mcap chunks": "STORAGE", "messages": "MESSAGE"}
    writer.set_compression(CompressionMode[modes.get(storage, "NONE")], CompressionFormat.ZSTD)
    with writer:
        channels = {topic: writer.add_connection(topic, IMAGE, typestore=typestore()) for topic in (TOPIC, OTHER)}
        for topic, time_ns, data in _messages():
            writer.write(channels[topic], time_ns, data)
    if chance.random() < 0.5:  # a file alone, which nothing beside it vouches for
        (folder / "metadata.yaml").unlink()


def _text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def _record(opcode: int, data: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(data)) + data


def _chunk(content: bytes, compression: str, packed: bytes, size: int | None = None) -> bytes:
    head = struct.pack("<QQQI", 1, 1 << 62, len(content) if size is None else size, zlib.crc32(content))
    return _record(6, head + _text(compression) + struct.pack("<Q", len(packed)) + packed)


def _mcap(messages: list[tuple[str, int, bytes]], compression: str, spoil: Callable[[bytes], bytes] = bytes) -> bytes:
    """A file of two chunks with statistics; ``spoil`` changes what is in them before their checksums are taken."""
    import lz4.frame

    from eomt_ext_ros.bags.compression import zstd

    pack = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "": bytes}[compression]
    topics = sorted({topic for topic, _, _ in messages})
    declared = _record(3, struct.pack("<H", 1) + _text("sensor_msgs/msg/Image") + _text("ros2msg") + _text(""))
    for number, topic in enumerate(topics):
        declared += _record(4, struct.pack("<HH", number, 1) + _text(topic) + _text("cdr") + _text(""))
    data, half = _MAGIC + _record(1, _text("ros2") + _text("fuzz")), len(messages) // 2
    for part in (messages[:half], messages[half:]):
        content = declared
        for topic, time_ns, message in part:
            content += _record(5, struct.pack("<HIQQ", topics.index(topic), 0, time_ns, time_ns) + message)
        content = spoil(content)
        data += _chunk(content, compression, pack(content))
    data += _record(15, bytes(4))
    counts = [sum(name == topic for name, _, _ in messages) for topic in topics]
    statistics = struct.pack("<QHIIIIQQI", len(messages), 1, len(topics), 0, 0, 2, 1, 1, 10 * len(topics))
    summary = declared + _record(11, statistics + b"".join(struct.pack("<HQ", *pair) for pair in enumerate(counts)))
    return data + summary + _record(2, struct.pack("<QQI", len(data), 0, 0)) + _MAGIC


# -- what is done to them ---------------------------------------------------------------------------------------------


def _file(folder: Path, chance: random.Random) -> Path:
    """The file with the messages, or, now and then, the metadata."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    others = [file for file in files if file.name != "metadata.yaml"]
    return chance.choice(files) if chance.random() < 0.2 else others[0]


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose any position, or one at the beginning or end, where the structure is."""
    near = chance.randrange(min(len(data), 2000))
    return chance.choice((chance.randrange(len(data)), near, len(data) - 1 - near))


def intact(folder: Path, chance: random.Random) -> str | None:
    return "success"


def flip(folder: Path, chance: random.Random) -> str | None:
    file = _file(folder, chance)
    data = bytearray(file.read_bytes())
    for _ in range(chance.randint(1, 8)):
        data[_place(data, chance)] = chance.randrange(256)
    file.write_bytes(data)
    return None


def number(folder: Path, chance: random.Random) -> str | None:
    file = _file(folder, chance)
    data = bytearray(file.read_bytes())
    place, size = _place(data, chance), chance.choice((1, 2, 4, 8))
    value = chance.choice((0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), len(data), chance.getrandbits(8 * size)))
    data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, chance.choice(("little", "big")))
    file.write_bytes(data)
    return None


def rearrange(folder: Path, chance: random.Random) -> str | None:
    file = _file(folder, chance)
    data = bytearray(file.read_bytes())
    place, size = _place(data, chance), chance.choice((1, 9, 31, 512, 4096))
    piece = data[place : place + size]
    kind = chance.choice(("remove", "repeat", "zero", "move"))
    if kind == "zero":
        data[place : place + size] = bytes(len(piece))
    else:
        if kind != "repeat":
            del data[place : place + size]
        if kind != "remove":
            at = chance.randrange(len(data) + 1)
            data[at:at] = piece
    file.write_bytes(data)
    return None


def cut(folder: Path, chance: random.Random) -> str | None:
    file = next(file for file in sorted(folder.iterdir()) if file.name != "metadata.yaml")
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])
    return "error"


def records(folder: Path, chance: random.Random) -> str | None:
    """Spoil what is inside of chunks, under a checksum that fits."""

    def spoil(content: bytes) -> bytes:
        data = bytearray(content)
        for _ in range(chance.randint(0, 3)):
            data[_place(data, chance)] = chance.randrange(256)
        return bytes(data)

    shutil.rmtree(folder)
    folder.mkdir()
    compression = chance.choice(("", "zstd", "lz4"))
    (folder / "a.mcap").write_bytes(_mcap(_messages(), compression, spoil))
    return None


def statements(folder: Path, chance: random.Random) -> str | None:
    """A database that somebody worked in."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    rename = "ALTER TABLE messages RENAME TO m;"
    script, expect = chance.choice(
        [
            ("UPDATE messages SET timestamp = -timestamp WHERE id = 3", "error"),
            ("UPDATE messages SET timestamp = 9223372036854775807 WHERE id = 3", None),
            ("UPDATE messages SET timestamp = 'noon' WHERE id = 3", "error"),
            ("UPDATE messages SET topic_id = 77 WHERE id = 3", "error"),
            ("UPDATE messages SET data = NULL WHERE id = 3", "error"),
            ("UPDATE messages SET data = zeroblob(100000) WHERE topic_id = 1", "error"),
            ("UPDATE topics SET type = 'std_msgs/msg/String'", "error"),
            ("UPDATE topics SET name = name || x'ff1b5b324a0a'", "error"),
            (
                f"{rename} CREATE VIEW messages AS {endless} SELECT i id, 1 topic_id, i timestamp, x'00' data FROM n",
                "error",
            ),
            (
                f"{rename} CREATE VIEW messages AS SELECT id, topic_id, timestamp, zeroblob(1000000000) data FROM m",
                "error",
            ),
            ("ALTER TABLE messages ADD COLUMN more BLOB AS (zeroblob(1000000000))", "error"),
            (f"INSERT INTO messages {endless} SELECT i + 100, 1, i, x'' FROM n LIMIT 10000", "error"),
            ("DROP TABLE topics", "error"),
            ("DROP TABLE messages", "error"),
            ("DROP INDEX timestamp_idx", None),
            ("CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM messages; END", None),
        ]
    )
    path = folder / "made.db3"
    _write_sqlite(path)
    for file in folder.iterdir():
        if file != path:
            file.unlink()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.create_function("zeroblob", 1, bytes, deterministic=True)
        database.executescript(script)
    return expect


def _write_sqlite(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);"
            "CREATE INDEX timestamp_idx ON messages(timestamp)"
        )
        topics = [(number, topic, "sensor_msgs/msg/Image", "cdr") for number, topic in enumerate((TOPIC, OTHER), 1)]
        database.executemany("INSERT INTO topics VALUES(?, ?, ?, ?)", topics)
        rows = [((TOPIC, OTHER).index(topic) + 1, time_ns, data) for topic, time_ns, data in _messages()]
        database.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)", rows)
        database.commit()


def bomb(folder: Path, chance: random.Random) -> str | None:
    """Kilobytes that decompress to gigabytes, or to nothing for ever."""
    from eomt_ext_ros.bags.compression import zstd

    # A frame of runs: 4 bytes for 128 KiB each.
    runs = b"\x28\xb5\x2f\xfd\x00\x38" + (0x100002).to_bytes(3, "little") + b"\0"
    gigabytes = runs + runs[6:] * chance.choice((12_000, 200_000)) + b"\x01\0\0"
    frames = zstd.compress(b"") * 100_000
    skipped = (b"\x50\x2a\x4d\x18" + bytes(4)) * 100_000
    packed = chance.choice((gigabytes, frames, skipped))
    claimed = chance.choice((0, 1 << 20, 300 << 20, 1 << 40))
    time_ns = _START_NS + 5
    kind = chance.choice(("chunk", "message", "mcap file", "sqlite3 file"))
    for file in folder.iterdir():
        file.unlink()
    if kind == "chunk":
        data = _mcap(_messages(), "")
        end = data.index(_record(15, bytes(4)))
        (folder / "a.mcap").write_bytes(data[:end] + _chunk(b"", "zstd", packed, claimed) + data[end:])
    elif kind == "message":
        (folder / "a.mcap").write_bytes(_mcap([*_messages(), (TOPIC, time_ns, packed)], ""))
    else:
        inner = _mcap(_messages(), "")
        if kind == "sqlite3 file":
            _write_sqlite(folder / "a.db3")
            inner = (folder / "a.db3").read_bytes()
            (folder / "a.db3").unlink()
        name = "a.mcap.zstd" if kind == "mcap file" else "a.db3.zstd"
        (folder / name).write_bytes(zstd.compress(inner) + packed)
    return "error" if packed is gigabytes or kind == "message" else None


def metadata(folder: Path, chance: random.Random) -> str | None:
    aliases = "a0: &a0 [x, x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}]\n" for n in range(40))
    head = "rosbag2_bagfile_information:\n  relative_file_paths: "
    text = chance.choice(
        [
            aliases + head + "*a40\n  topics_with_message_count: *a40\n",
            "[" * 400_000,
            "- " * 200_000,
            "{a: " * 100_000,
            "- a\n" * 200_000,
            head + "[../../../../etc/passwd, /dev/zero]\n  topics_with_message_count: []\n",
            head
            + "[]\n  topics_with_message_count: [{topic_metadata: {name: /x}, message_count: "
            + "9" * 10_000
            + "}]\n",
            "!!python/object/apply:os.abort []\n",
            "\0" * 1000,
        ]
    )
    (folder / "metadata.yaml").write_text(text)
    return "error"


def no_file(folder: Path, chance: random.Random) -> str | None:
    """A pipe, a device, a socket or a folder beside the files, or in the place of one."""
    path = folder / chance.choice(("x.mcap", "x.db3", "x.db3.zstd", "metadata.yaml", _file(folder, chance).name))
    path.unlink(missing_ok=True)
    kind = chance.choice(("pipe", "device", "socket", "folder", "link"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener, contextlib.chdir(folder):
            listener.bind(path.name)
    return "error"


GENERIC: tuple[Mutation, ...] = (flip, flip, flip, number, number, rearrange, rearrange, cut, metadata, no_file)
OF_STORAGE: dict[str, tuple[Mutation, ...]] = {
    "sqlite3": (statements, statements),
    "sqlite3 file": (bomb,),
    "mcap": (records, records, bomb),
    "mcap chunks": (records, bomb),
    "messages": (bomb,),
}


# -- cases ------------------------------------------------------------------------------------------------------------


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig, save_model

    chance = random.Random(seed)
    overrides = {"embed_dim": 16, "depth": 2, "num_heads": 2}
    config = ModelConfig("vit_small_patch14_reg4_dinov2", (32, 48), 16, 4, 3, 2, backbone_overrides=overrides)
    save_model(EoMTExt(config, HeadConfig(16, 0.3, 8)), folder / "tiny.safetensors")
    for index in range(count):
        storage = STORAGES[index % len(STORAGES)]
        path, output = folder / f"{index:04d}", folder / "out" / f"{index:04d}"
        _write_intact(storage, path, chance)
        mutation = intact if index < len(STORAGES) else chance.choice(GENERIC + OF_STORAGE[storage])
        expect = mutation(path, chance)
        files = list(path.iterdir())
        bag = files[0] if len(files) == 1 else path  # of a folder it is reported that it has no metadata.yaml
        command = ("benchmarks.fuzz.bags:replay", str(bag), str(output))
        if index % EVERY_WHOLE == EVERY_WHOLE - 1:
            options = ("--image-topic", TOPIC, "--checkpoint", str(folder / "tiny.safetensors"), "--device", "cpu")
            command = ("eomt-ext", "replay", str(bag), "--output", str(output), *options)
        yield Case(f"{index:04d} {storage} {mutation.__name__}", path, command, expect)


class _Engine:
    """In the place of the engine: the same interface, and a result that costs nothing."""

    threshold = 0.5
    normality = None
    has_semantic = False

    def __init__(self) -> None:
        self.num_frames = 0

    def describe(self) -> dict[str, str]:
        return {"device": "none", "precision": "fp32", "threshold": "0.5 (the default, not calibrated)"}

    def score_maps(self, image_rgb: NDArray[np.uint8], scores: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        self.num_frames += 1
        return {name: image_rgb[..., 0].astype(np.float32) / 255 for name in scores}


def replay(bag: str, output: str) -> int:
    """Replay a bag; returns the exit status. Raises ``AssertionError`` if that is 0 and a frame is missing."""
    from eomt_ext_ros.parameters.node_config import NodeConfig
    from eomt_ext_ros.replay import one_bag
    from eomt_ext_ros.replay.command import run
    from eomt_ext_ros.replay.job import ReplayConfig

    engine: Any = _Engine()
    Path(output).mkdir(parents=True)
    with mock.patch.object(one_bag, "_engine", return_value=engine):
        status, *_ = run([Path(bag)], Path(output), ReplayConfig(NodeConfig(), (TOPIC,)))
    if status == 0 and engine.num_frames < FRAMES:
        raise AssertionError(f"{engine.num_frames} of {FRAMES} frames without any problem reported")
    return status
