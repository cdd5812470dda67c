"""Databases that were made to run for ever, or that hide rows: a sentence, soon, and nothing lost unsaid."""

import contextlib
import shutil
import sqlite3

import pytest

from eomt_ext_ros.bags import Bag
from eomt_ext_ros.bags.limits import BagLimits

pytestmark = pytest.mark.usefixtures("at_most_a_minute")

TOPIC = "/camera/image"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
TOPICS = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)"
MESSAGES = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)"
ONE_TOPIC = f"INSERT INTO topics VALUES(1, '{TOPIC}', 'sensor_msgs/msg/Image', 'cdr')"


@pytest.mark.parametrize(
    "script",
    [
        f"{TOPICS}; {ONE_TOPIC}; CREATE VIEW messages AS {ENDLESS} SELECT i id, 1 topic_id, i timestamp, "
        "x'00' data FROM n",
        f"{MESSAGES}; CREATE VIEW topics AS {ENDLESS} SELECT i id, hex(zeroblob(i)) name, '' type, 'cdr' "
        "serialization_format FROM n",
        f"{TOPICS}; {ONE_TOPIC}; CREATE TABLE m(i); CREATE VIEW messages AS SELECT a.i id, 1 topic_id, 1 timestamp, "
        "zeroblob(900000000) data FROM m a",
        f"{TOPICS}; {ONE_TOPIC}; CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB AS (zeroblob(900000000))); INSERT INTO messages VALUES(1, 1, 1)",
        f"{TOPICS}; {ONE_TOPIC}; CREATE VIRTUAL TABLE messages USING fts4(topic_id, timestamp, data)",
        f"{TOPICS}; {ONE_TOPIC}",
        MESSAGES,
        f"{TOPICS}; {ONE_TOPIC}; CREATE TABLE messages(id, topic_id, timestamp, data, PRIMARY KEY(id)) WITHOUT ROWID",
    ],
    ids=["endless", "endless topics", "view", "computed", "virtual", "no messages", "no topics", "no rows"],
)
def test_programs_in_a_database_are_not_run(tmp_path, script, readable):
    with contextlib.closing(sqlite3.connect(tmp_path / "made.db3")) as database:
        database.executescript(script)
    found, problems = readable(tmp_path / "made.db3")
    assert found == []
    assert any("tables cannot be read" in line or "messages cannot be read" in line for line in problems)


def test_a_trigger_does_nothing(drive, readable):
    bag = drive(frames=2, storage="sqlite3")
    with contextlib.closing(sqlite3.connect(bag.file)) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM topics; END")
        database.commit()
    assert readable(bag.path) == ([data for _, _, data in bag.messages], [])


def test_the_time_in_sqlite_has_an_end(drive, readable):
    bag = drive(frames=6, storage="sqlite3")
    with contextlib.closing(sqlite3.connect(bag.file)) as database:
        database.execute(f"INSERT INTO messages {ENDLESS} SELECT i + 99, 1, i, x'00' FROM n LIMIT 20000")
        database.commit()
    found, problems = readable(bag.path, BagLimits(query_s=0.002, query_s_per_mib=0))
    assert len(found) < 20006
    assert any("takes an unreasonable time to read" in problem for problem in problems)


def test_rows_that_a_page_no_longer_counts_are_missed(drive, readable):
    """A page of the table that says it has fewer rows than it has: the index of times still knows them."""
    bag = drive(frames=6, storage="sqlite3", size_hw=(4, 4))
    (bag.path / "metadata.yaml").unlink()
    whole = bytearray(bag.file.read_bytes())
    leaf = next(
        page for page in range(0, len(whole), 4096) if whole[page] == 13 and whole[page + 3 : page + 5] == b"\0\6"
    )
    whole[leaf + 4] = 4
    bag.file.write_bytes(whole)
    found, problems = readable(bag.path)
    assert len(found) == 4
    assert any("only 4 of 6 messages in the index of times found" in problem for problem in problems)


def test_rows_of_no_topic_are_reported(drive, readable):
    bag = drive(frames=3, storage="sqlite3")
    with contextlib.closing(sqlite3.connect(bag.file)) as database:
        database.execute("UPDATE messages SET topic_id = 7 WHERE id = 2")
        database.execute("UPDATE messages SET timestamp = 'noon' WHERE id = 3")
        database.commit()
    _, problems = readable(bag.file)
    assert any("row 2 is lost: its topic 7 is not in the table of topics" in line for line in problems)
    assert any("row 3 is lost: it has no topic or time" in line for line in problems)


def test_a_negative_time_does_not_move_the_start(drive):
    bag = drive(frames=4, storage="sqlite3")
    with contextlib.closing(sqlite3.connect(bag.file)) as database:
        database.execute("UPDATE messages SET timestamp = -5 WHERE id = 4")
        database.commit()
    with Bag(bag.path) as opened:
        assert opened.start_ns == bag.messages[0][1]


def test_frames_whose_times_no_clock_gives_are_processed(drive, replay, read_outputs):
    bag = drive(frames=4, storage="sqlite3")
    with contextlib.closing(sqlite3.connect(bag.file)) as database:
        database.execute("UPDATE messages SET timestamp = -5 WHERE id = 2")
        database.commit()

    outcome = replay(bag)
    assert outcome.status == 3
    (times,) = {
        tuple(time_ns for time_ns, _ in messages) for messages in read_outputs(outcome.folder / "annotated").values()
    }
    start = bag.messages[0][1] - 5
    assert sorted(times) == [start + 5, start + 100_000_000, start + 200_000_005, start + 300_000_005]
    assert "received at -5 ns: impossible time, its stamp is used instead" in outcome.text


def test_write_ahead_log_is_read_unchanged(drive, readable, tmp_path):
    path = drive(frames=2, storage="sqlite3").file
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("INSERT INTO messages VALUES(99, 1, 99, x'0001')")
        database.commit()
        (tmp_path / "killed").mkdir()
        for file in (path, path.with_name(path.name + "-wal")):
            shutil.copy(file, tmp_path / "killed")
    before = {file.name: file.read_bytes() for file in (tmp_path / "killed").iterdir()}
    found, problems = readable(tmp_path / "killed" / path.name)
    assert sorted(map(len, found))[0] == 2
    assert (len(found), problems) == (3, [])
    assert {file.name: file.read_bytes() for file in (tmp_path / "killed").iterdir()} == before
