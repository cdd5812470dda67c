"""MCAP files that were made to take memory or time, or to hide messages: a sentence, soon, and nothing lost unsaid."""

import struct
import tracemalloc

import lz4.frame
import pytest

from eomt_ext_ros.bags import Bag
from eomt_ext_ros.bags.compression import zstd
from eomt_ext_ros.bags.limits import BagLimits
from eomt_ext_ros.bags.mcap import MAGIC

pytestmark = pytest.mark.usefixtures("at_most_a_minute")

TOPIC = "/camera/image"
PACKERS = {"zstd": zstd.compress, "lz4": lz4.frame.compress}


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def record(opcode, data):
    return struct.pack("<BQ", opcode, len(data)) + data


def chunk(content, compression="", packed=None, size=None):
    packed = content if packed is None else packed
    head = struct.pack("<QQQI", 1, 9, len(content) if size is None else size, 0) + text(compression)
    return record(6, head + struct.pack("<Q", len(packed)) + packed)


def message(data, channel=3, time_ns=1):
    return record(5, struct.pack("<HIQQ", channel, 0, time_ns, time_ns) + data)


DECLARED = record(3, struct.pack("<H", 1) + text("sensor_msgs/msg/Image") + text("ros2msg") + text("")) + record(
    4, struct.pack("<HH", 3, 1) + text(TOPIC) + text("cdr") + text("")
)
START, END = MAGIC + record(1, text("ros2") + text("test")), record(15, bytes(4)) + record(2, bytes(20)) + MAGIC


@pytest.fixture
def write_mcap(tmp_path):
    def write(data, name="made.mcap"):
        (tmp_path / name).write_bytes(START + data + END)
        return tmp_path / name

    return write


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_chunk_takes_no_more_memory_than_it_claims(write_mcap, compression, readable):
    bomb = PACKERS[compression](bytes(1 << 30))
    path = write_mcap(chunk(b"", compression, bomb, size=1 << 20))
    tracemalloc.start()
    try:
        found, problems = readable(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == []
    assert "contain more than 1048576 bytes" in problems[0]
    assert peak < len(bomb) + (16 << 20)


def test_a_chunk_that_claims_too_much_is_not_decompressed(write_mcap, readable):
    path = write_mcap(chunk(b"", "zstd", zstd.compress(bytes(2 << 20)), size=2 << 20))
    found, problems = readable(path, BagLimits(chunk_bytes=1 << 20))
    assert found == []
    assert "must have at most 1048576 bytes, it claims 2097152" in problems[0]


def test_an_image_of_8192_by_8192_pixels_is_read(write_mcap, readable):
    content = DECLARED + message(bytes(192 << 20))
    path = write_mcap(chunk(content, "zstd", zstd.compress(content)))
    (found,), problems = readable(path)
    assert len(found) == 192 << 20
    assert problems == []


def test_many_small_bombs_are_given_up_together(write_mcap, readable):
    content = DECLARED + message(bytes(1 << 20))
    one = chunk(content, "zstd", zstd.compress(content))
    path = write_mcap(one * 40)
    found, problems = readable(path, BagLimits(made_bytes=1 << 24, made_ratio=1))
    assert len(found) < 16
    assert any(f"a file of {path.stat().st_size} bytes would decompress to an unreasonable size" in p for p in problems)


def test_chunks_that_are_read_in_turns_are_not_decompressed_for_ever(write_mcap, readable):
    chunks = []
    for first in range(6):
        messages = b"".join(message(bytes(100), time_ns=first + 6 * turn) for turn in range(150))
        content = DECLARED + messages + record(0x90, bytes(1 << 20))
        chunks.append(chunk(content, "zstd", zstd.compress(content)))
    path = write_mcap(b"".join(chunks))
    found, problems = readable(path)
    assert (len(found), problems) == (900, [])
    found, problems = readable(path, BagLimits(made_bytes=1 << 26, made_ratio=1))
    assert 64 < len(found) < 700  # those in chunks that are open when the allowance is spent
    assert any("unreasonable size" in problem for problem in problems)


def test_more_records_than_memory_can_hold_are_given_up(write_mcap, readable):
    content = DECLARED + message(b"") * 2000
    path = write_mcap(chunk(content, "zstd", zstd.compress(content)))
    found, problems = readable(path, BagLimits(records=500, records_ratio=0.01))
    assert 0 < len(found) < 500
    assert any("holds an unreasonable number of records" in problem for problem in problems)


def test_damage_and_anchors_without_end_are_walked_once(tmp_path, readable):
    """Each chunk index leads to the next damage: the way is linear, and so are the problems."""
    damage = record(0x10, b"")
    body = START + damage * 20_000
    indexes = b"".join(record(8, struct.pack("<QQQQI", 1, 1, len(START) + 9 * n, 0, 0)) for n in range(20_000))
    (tmp_path / "a.mcap").write_bytes(body + indexes + record(2, struct.pack("<QQI", len(body), 0, 0)) + MAGIC)
    _, problems = readable(tmp_path / "a.mcap")
    assert len(problems) == BagLimits().problems + 1
    assert problems[-1].endswith("more problems")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (DECLARED + message(b"", channel=4), "1 messages on channel 4 are lost: it belongs to no topic"),
        (chunk(DECLARED + message(b"", channel=4)), "1 messages on channel 4 are lost: it belongs to no topic"),
        (chunk(DECLARED + record(5, b"")), "is damaged"),
        (DECLARED + record(0x25, bytes(22)), "opcode 37"),
        (DECLARED + END + DECLARED, "the file continues after its footer"),
        (DECLARED + DECLARED.replace(b"image", b"imagf"), "declared twice, for /camera/image and /camera/imagf"),
        (DECLARED.replace(text(TOPIC), text("/" * 2000)), "a name of 2000 bytes"),
        (record(3, bytes((1 << 24) + 1)), "must have at most"),
    ],
)
def test_messages_and_declarations_that_mean_nothing_are_reported(write_mcap, data, problem, readable):
    _, problems = readable(write_mcap(data))
    assert any(problem in line for line in problems), problems


@pytest.mark.parametrize("opcode", [0x85, 9, 12])
def test_messages_that_became_something_else_are_missed(tmp_path, opcode, readable):
    """The statistics at the end count messages by channel."""
    lost = bytearray(message(b"2"))
    lost[0] = opcode
    data = START + DECLARED + message(b"1") + bytes(lost) + message(b"3") + record(15, bytes(4))
    statistics = record(11, struct.pack("<QHIIIIQQ", 3, 1, 1, 0, 0, 0, 1, 1) + struct.pack("<IHQ", 10, 3, 3))
    (tmp_path / "a.mcap").write_bytes(data + statistics + record(2, struct.pack("<QQI", len(data), 0, 0)) + MAGIC)
    found, problems = readable(tmp_path / "a.mcap")
    assert found == [b"1", b"3"]
    assert problems == [f"a.mcap: {TOPIC}: only 2 of 3 messages found"]


def test_chunk_is_skipped_only_if_its_index_agrees(drive, readable):
    recorded = drive(frames=8, compression="storage", size_hw=(240, 320), topics=(TOPIC, "/other/image"))
    (recorded.path / "metadata.yaml").unlink()
    spoilt, position, changed = bytearray(recorded.file.read_bytes()), len(MAGIC), 0
    while spoilt[position] != 15:  # the end of the data
        opcode, size = struct.unpack_from("<BQ", spoilt, position)
        if opcode == 7 and spoilt[position + 9] == 1:  # messages of the first topic, said to be of the second
            spoilt[position + 9] = 2
            changed += 1
        position += 9 + size
    recorded.file.write_bytes(spoilt)
    assert changed > 1
    assert len(readable(recorded.file)[0]) == 8


def test_a_message_received_at_the_end_of_time_is_read(write_mcap):
    times = [1, 1 << 63, (1 << 64) - 1]
    data = b"".join(message(bytes([number]) * 8, time_ns=time_ns) for number, time_ns in enumerate(times))
    with Bag(write_mcap(DECLARED + data)) as bag:
        assert [found.time_ns for found in bag.messages([TOPIC])] == times
        assert [found.time_ns for found in bag.messages([TOPIC], 0.0, 1.0)] == [1]
        assert bag.problems == []
