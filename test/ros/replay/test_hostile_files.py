"""Folders with bombs, pipes and names of any bytes in the place of a bag's files: a sentence, soon."""

import contextlib
import os
import socket

import pytest

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags import Bag
from eomt_ext_ros.bags.compression import zstd
from eomt_ext_ros.bags.limits import BagLimits

pytestmark = pytest.mark.usefixtures("at_most_a_minute")

TOPIC = "/camera/image"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_compressed_file_does_not_fill_the_disk(drive, storage, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    bag = drive(frames=2, storage=storage, compression="file")
    bag.file.write_bytes(bag.file.read_bytes() + zstd.compress(bytes(1 << 30)))
    with Bag(bag.path, BagLimits(made_bytes=1 << 26, made_ratio=1)) as opened:
        (copy,) = (tmp_path / "temporary").rglob("drive.*")
        assert copy.stat().st_size <= 1 << 26
        assert any("would decompress to an unreasonable size" in problem for problem in opened.problems)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_compressed_message_is_bounded(write_bag, readable):
    bag = write_bag("drive", [(TOPIC, "raw", 1, zstd.compress(bytes(1 << 26)))])
    found, problems = readable(bag.path, BagLimits(message_bytes=1 << 20))
    assert found == []
    assert "contain more than 1048576 bytes" in problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n"
        + "\n".join(
            f"{c}: &{c} [*{b}, *{b}, *{b}, *{b}, *{b}]" for b, c in zip("abcdefghijk", "bcdefghijkl", strict=True)
        )
        + "\nrosbag2_bagfile_information: {relative_file_paths: *l, topics_with_message_count: []}\n",
        "a: &a {x: 1}\nrosbag2_bagfile_information:\n  <<: *a\n",
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "!!python/object/apply:os.abort []",
        "#" * (5 << 20),
        "rosbag2_bagfile_information: {relative_file_paths: [[a]], topics_with_message_count: []}",
    ],
    ids=["aliases", "merge", "lists", "maps", "items", "object", "long", "no names"],
)
def test_metadata_build_nothing_that_they_do_not_spell_out(drive, text, readable):
    bag = drive(frames=2)
    (bag.path / "metadata.yaml").write_text(text)
    found, problems = readable(bag.path)
    assert len(found) == 2
    assert len(problems) == 1
    assert "metadata.yaml cannot be read" in problems[0]


@pytest.mark.parametrize("name", ["a.mcap", "a.db3", "a.mcap.zstd", "a.db3.zstd", "metadata.yaml"])
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_what_is_no_file_is_not_waited_for(drive, name, kind, readable):
    bag = drive(frames=2)
    path = bag.path / name
    path.unlink(missing_ok=True)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        else:
            monkey = os.getcwd()
            os.chdir(bag.path)  # the name of a socket must be short
            listener.bind(name)
            os.chdir(monkey)
        found, problems = readable(bag.path)
    assert len(found) == 2
    assert any(name in problem and "cannot be" in problem for problem in problems), problems


def test_a_pipe_is_no_bag(tmp_path):
    os.mkfifo(tmp_path / "a.mcap")
    with pytest.raises(DatasetError, match="must be a folder or a file"):
        Bag(tmp_path / "a.mcap")


def test_names_of_bags_may_be_any_bytes(drive, replay, tmp_path):
    bag = drive(frames=2, storage="sqlite3")
    path = tmp_path / os.fsdecode(b"caf\xe9 #1?%41.db3")
    bag.file.rename(path)
    outcome = replay(path)
    assert outcome.status == 0, outcome.text
    assert "caf\\\\xe9 #1?%41/" in (outcome.folder / "metrics.json").read_text()
    page = (outcome.folder / "report.html").read_text()
    assert "caf\\\\xe9 #1?%41/" in page, "in its data"
    assert "caf\\xe9 #1?%41:" in page, "among its facts"
