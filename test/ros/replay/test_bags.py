"""Reading bags: against rosbags' own reader where they are whole."""

import itertools

import pytest
from rosbags.rosbag2 import Reader

from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_ros.bags import Bag, BagWriter
from eomt_ext_ros.bags.messages import deserialize, header_of, image_rgb, plane, serialize_image, stamp_ns

IMAGE = "sensor_msgs/msg/Image"
START_NS, STEP_NS = 1_700_000_000_000_000_000, 100_000_000
KINDS = [
    (storage, compression)
    for storage, compression in itertools.product(("mcap", "sqlite3"), ("none", "file", "message", "storage"))
    if (storage, compression) != ("sqlite3", "storage")
]


def everything(bag, topics=None):
    return [(m.topic, m.time_ns, bag.read(m)) for m in bag.messages(topics or list(bag.topics))]


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_reads_what_rosbags_reads(drive, storage, compression):
    recorded = drive(storage=storage, compression=compression, topics=("/a/image", "/b/image"), labels="png")

    with Reader(recorded.path) as reader:
        expected = [(connection.topic, time_ns, bytes(data)) for connection, time_ns, data in reader.messages()]
    with Bag(recorded.path) as bag:
        assert everything(bag) == expected == recorded.messages
        assert {name: topic.msgtype for name, topic in bag.topics.items()} == {
            "/a/image": IMAGE,
            "/b/image": IMAGE,
            "/camera/labels": "sensor_msgs/msg/CompressedImage",
        }
        assert bag.start_ns == START_NS + 5
        assert bag.problems == []


@pytest.mark.parametrize("kind", ["raw", "jpeg", "png"])
def test_images_come_back_with_their_header(drive, pixels_of, kind):
    recorded = drive(kind=kind)

    with Bag(recorded.path) as bag:
        messages = bag.messages(["/camera/image"])
        msgtype = bag.topics["/camera/image"].msgtype
        for index, message in enumerate(messages):
            data = bag.read(message)
            msg = deserialize(data, msgtype)
            assert stamp_ns(data) == START_NS + index * STEP_NS
            assert msg.header.frame_id == "optical_0"
            difference = image_rgb(msg, msgtype).astype(int) - pixels_of(index)
            assert abs(difference).max() == 0 if kind != "jpeg" else 0 < abs(difference).mean() < 60
    assert len(messages) == 6


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_time_range_counts_from_the_first_message(drive, storage):
    with Bag(drive(frames=10, storage=storage).path) as bag:
        received = [message.time_ns for message in bag.messages(["/camera/image"], 0.2, 0.3)]

        assert [(time_ns - START_NS - 5) // STEP_NS for time_ns in received] == [2, 3, 4]
        assert len(bag.messages(["/camera/image"], 0.95)) == 0
        assert len(bag.messages(["/camera/image"], 0.0, 0.1)) == 1
        assert bag.messages(["/not/there"]) == []


def test_messages_are_ordered_by_the_time_they_were_received(write_bag, serialize, pixels_of):
    times = [5, 3, 9, 3, 1]
    data = [serialize(pixels_of(index), "raw", index) for index in range(5)]
    for storage in ("mcap", "sqlite3"):
        recorded = write_bag(storage, [("/i", "raw", t, d) for t, d in zip(times, data, strict=True)], storage)
        with Bag(recorded.path) as bag:
            assert [(t, stamp_ns(d)) for _, t, d in everything(bag)] == [(1, 4), (3, 1), (3, 3), (5, 0), (9, 2)]


def test_single_files_are_bags_too(drive):
    for storage in ("mcap", "sqlite3"):
        recorded = drive(name=f"{storage}_0", storage=storage)
        with Bag(recorded.file) as bag:
            assert everything(bag) == recorded.messages
            assert bag.problems == []
            assert bag.name == f"{storage}_0"


def test_split_bags_are_read_in_the_order_of_their_numbers(drive, tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    parts = [drive(name=f"part{n}", frames=2, start_ns=START_NS + 2 * n * STEP_NS) for n in (0, 1)]
    for number, part in zip((9, 10), parts, strict=True):
        part.file.rename(folder / f"split_{number}.mcap")

    with Bag(folder) as bag:
        assert everything(bag) == parts[0].messages + parts[1].messages
        assert bag.problems == ["metadata.yaml is missing: the recording was probably not stopped properly"]


@pytest.mark.parametrize("text", ["", "a: [", "rosbag2_bagfile_information: {}", "\x00", "- 1\n- 2\n", "\u00e9: 1"])
def test_a_spoilt_metadata_file_is_reported(drive, text):
    recorded = drive()
    (recorded.path / "metadata.yaml").write_text(text, encoding="latin-1")

    with Bag(recorded.path) as bag:
        assert everything(bag) == recorded.messages
        assert len(bag.problems) == 1
        assert "metadata.yaml cannot be read" in bag.problems[0]


def test_missing_files_are_reported_and_no_bag_is_an_error(drive, tmp_path):
    recorded = drive()
    recorded.file.rename(recorded.path / "other.mcap")
    with Bag(recorded.path) as bag:
        assert len(everything(bag)) == 6
        assert any("drive.mcap: is missing" in problem for problem in bag.problems)
        assert any("does not list other.mcap" in problem for problem in bag.problems)

    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no bag")
    for path, why in [("empty", "found none"), ("notes.txt", "must be a folder"), ("nowhere", "does not exist")]:
        with pytest.raises(DatasetError, match=why):
            Bag(tmp_path / path)


def test_what_the_writer_writes_rosbags_reads(tmp_path, read_outputs, pixels_of):
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/empty")
        writer.write("/image", 7, serialize_image(pixels_of(1), "rgb8", header_of(3_000_000_005, "optical")))

    found = read_outputs(tmp_path / "bag")
    ((time_ns, msg),) = found["/image"]
    assert (time_ns, msg.header.stamp.sec, msg.header.stamp.nanosec, msg.header.frame_id) == (7, 3, 5, "optical")
    assert (plane(msg) == pixels_of(1)).all()
    assert found["/empty"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_the_writer_keeps_what_it_has_when_the_block_fails(tmp_path, read_outputs, pixels_of):
    data = serialize_image(pixels_of(1), "rgb8", header_of(1, "optical"))

    def write_and_fail():
        with BagWriter(tmp_path / "bag") as writer:
            writer.write("/image", 7, data)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()

    assert len(read_outputs(tmp_path / "bag")["/image"]) == 1


def test_messages_that_are_none_are_image_errors():
    for data in (b"", b"\x00\x01\x00\x00", b"\x00\x07" + bytes(40)):
        with pytest.raises(ImageError):
            stamp_ns(data)
    for data in (b"", b"\x00\x01\x00\x00" + b"\xff" * 100, bytes(20)):
        with pytest.raises(ImageError, match="are not a sensor_msgs/msg/Image"):
            deserialize(data, IMAGE)
    assert stamp_ns(b"\x00\x00\x00\x00" + (2).to_bytes(4, "big") + (7).to_bytes(4, "big")) == 2_000_000_007
