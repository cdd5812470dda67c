"""Bags that were cut short or damaged: never an exception, everything readable is read, the rest is reported."""

import struct
import time
import zlib

import lz4.frame
import numpy as np
import pytest

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags import Bag
from eomt_ext_ros.bags.mcap import MAGIC

TOPIC = "/camera/image"
KINDS = [
    ("mcap", "none"),
    ("mcap", "storage"),
    ("mcap", "message"),
    ("mcap", "file"),
    ("sqlite3", "none"),
    ("sqlite3", "message"),
    ("sqlite3", "file"),
]


def readable(path):
    """The messages that can be read, and the problems."""
    with Bag(path) as bag:
        found, unread = [], []
        for message in bag.messages([TOPIC]):
            try:
                found.append((message.topic, message.time_ns, bag.read(message)))
            except DatasetError as error:
                unread.append(str(error))
        return found, bag.problems + unread


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_cut_at_any_byte_keeps_a_growing_beginning(drive, storage, compression):
    recorded = drive(frames=16, storage=storage, compression=compression, size_hw=(240, 320))  # 3.7 MB, 4 chunks
    file, whole = recorded.file, recorded.file.read_bytes()
    offsets = [
        *range(0, 64, 7),
        *np.linspace(64, len(whole) - 64, 40, dtype=int),
        *range(len(whole) - 40, len(whole), 9),
    ]

    before = 0
    for offset in offsets:
        file.write_bytes(whole[:offset])
        found, problems = readable(recorded.path)
        assert found == recorded.messages[: len(found)], offset
        assert len(found) >= before, offset
        assert problems, offset
        before = len(found)
    # With the last bytes, sqlite3 loses its last page and zstd its last block, mcap nothing but its index.
    page_or_block = storage == "sqlite3" or compression == "file"
    assert before >= len(recorded.messages) - (2 if page_or_block else 0)

    file.write_bytes(whole)
    assert readable(recorded.path) == (recorded.messages, [])


def test_every_message_before_the_cut_is_read(drive):
    recorded = drive(frames=16, size_hw=(240, 320))
    whole = recorded.file.read_bytes()
    ends = [whole.index(data) + len(data) for _, _, data in recorded.messages]
    for count, end in enumerate(ends, start=1):
        for offset, expected in ((end, count), (end - 1, count - 1)):
            recorded.file.write_bytes(whole[:offset])
            assert len(readable(recorded.path)[0]) == expected


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_flipped_bytes_never_raise(drive, storage, compression):
    recorded = drive(frames=8, storage=storage, compression=compression, size_hw=(120, 160))
    file, whole = recorded.file, recorded.file.read_bytes()
    rng = np.random.default_rng(0)
    started = time.monotonic()
    for _ in range(40):
        spoilt = bytearray(whole)
        start = int(rng.integers(0, len(whole)))
        length = int(rng.choice([1, 8, 5000]))
        spoilt[start : start + length] = rng.bytes(length)
        file.write_bytes(spoilt)
        found, _ = readable(recorded.path)
        assert len(found) <= len(recorded.messages)
    assert time.monotonic() - started < 60


def test_a_damaged_chunk_costs_no_other(drive):
    recorded = drive(frames=16, compression="storage", size_hw=(240, 320))
    whole = bytearray(recorded.file.read_bytes())
    second = whole.index(b"\x28\xb5\x2f\xfd", whole.index(b"\x28\xb5\x2f\xfd") + 4)
    whole[second + 4 : second + 24] = b"\xff" * 20
    recorded.file.write_bytes(whole)

    found, problems = readable(recorded.path)
    assert 10 <= len(found) < 16
    assert set(found) < set(recorded.messages)
    assert found[-1] == recorded.messages[-1]
    assert any("chunk" in problem for problem in problems)
    assert any("of 16 recorded messages found" in problem for problem in problems)


def test_a_damaged_record_length_is_passed_by_the_index(drive):
    recorded = drive(frames=16, size_hw=(240, 320))
    whole = bytearray(recorded.file.read_bytes())
    first_chunk = whole.index(b"\x06", 9 + 8)
    whole[first_chunk + 1 : first_chunk + 9] = (1 << 60).to_bytes(8, "little")
    recorded.file.write_bytes(whole)

    found, problems = readable(recorded.path)
    assert 0 < len(found) < 16
    assert found == recorded.messages[-len(found) :]
    assert any("are lost" in problem for problem in problems)


def test_sqlite_rows_after_a_damaged_page_are_read(drive):
    recorded = drive(frames=16, storage="sqlite3", size_hw=(240, 320))
    whole = bytearray(recorded.file.read_bytes())
    page = 4096 * (len(whole) // 4096 // 2)
    whole[page : page + 4096] = bytes(4096)
    recorded.file.write_bytes(whole)

    found, problems = readable(recorded.path)
    assert set(found) < set(recorded.messages)
    assert len(found) >= 14
    assert found[-1] == recorded.messages[-1]
    assert problems


# -- MCAP as other recorders write it ---------------------------------------------------------------------------------


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def record(opcode, data):
    return struct.pack("<BQ", opcode, len(data)) + data


def chunk(content, compression, crc=None, pack=lambda data: data):
    packed = pack(content)
    crc = zlib.crc32(content) if crc is None else crc
    head = struct.pack("<QQQI", 1, 9, len(content), crc) + text(compression)
    return record(6, head + struct.pack("<Q", len(packed)) + packed)


DECLARED = record(3, struct.pack("<H", 1) + text("sensor_msgs/msg/Image") + text("ros2msg") + text("")) + record(
    4, struct.pack("<HH", 3, 1) + text(TOPIC) + text("cdr") + text("")
)
MESSAGES = [b"\x00\x01\x00\x00" + bytes([value]) * 20 for value in range(3)]
BODY = b"".join(
    record(5, struct.pack("<HIQQ", 3, 0, time_ns, time_ns) + data) for time_ns, data in enumerate(MESSAGES, start=1)
)
START, END = MAGIC + record(1, text("ros2") + text("test")), record(15, bytes(4)) + record(2, bytes(20)) + MAGIC


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(DECLARED + BODY, id="without chunks"),
        pytest.param(chunk(DECLARED + BODY, ""), id="chunk"),
        pytest.param(chunk(DECLARED + BODY, "lz4", pack=lz4.frame.compress), id="lz4"),
        pytest.param(chunk(DECLARED + BODY, "", crc=0), id="without checksum"),
        pytest.param(record(0x90, b"private") + chunk(DECLARED, "") + record(9, b"attachment") + BODY, id="mixed"),
    ],
)
def test_mcap_of_other_recorders(tmp_path, data):
    path = tmp_path / "other.mcap"
    path.write_bytes(START + data + END)
    found, problems = readable(path)
    assert found == [(TOPIC, time_ns, message) for time_ns, message in enumerate(MESSAGES, start=1)]
    assert problems == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (chunk(DECLARED + BODY, "", crc=7), "does not match its checksum"),
        (chunk(DECLARED + BODY, "bz2"), "must be zstd or lz4, got 'bz2'"),
        (chunk(DECLARED + BODY, "lz4"), "cannot be decompressed"),
        (chunk(DECLARED + BODY, "zstd"), "cannot be decompressed"),
        (chunk(DECLARED + BODY, "zstd" * 5), "compression has 20 bytes"),
        (DECLARED.replace(text("cdr"), text("cbr")) + BODY, "must have the encoding 'cdr'"),
        (record(6, bytes(10)), "a chunk has only 10 bytes"),
        (record(5, bytes(4)) + record(15, b""), "a message has only 4 bytes"),
        (bytes(30), "opcode 0"),
    ],
)
def test_unusable_content_is_reported(tmp_path, data, problem):
    path = tmp_path / "other.mcap"
    path.write_bytes(START + data + END)
    found, problems = readable(path)
    assert found == []
    assert any(problem in line for line in problems), problems


def test_chunk_that_claims_all_memory_is_not_opened(tmp_path):
    head = struct.pack("<QQQI", 1, 9, 1 << 50, 0) + text("zstd") + struct.pack("<Q", 4) + b"\x28\xb5\x2f\xfd"
    (tmp_path / "bomb.mcap").write_bytes(START + record(6, head) + END)
    assert "it claims" in readable(tmp_path / "bomb.mcap")[1][0]
