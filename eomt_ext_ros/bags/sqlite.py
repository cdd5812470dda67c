"""Reading of rosbag2's sqlite3 files row by row, past damage."""

from __future__ import annotations

import os
import sqlite3
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import printable
from eomt_ext_ros.bags.limits import Allowance
from eomt_ext_ros.bags.storage import Location, Problems, Topic, open_regular, type_name

MOST_ROWS_SKIPPED = 1000
"""Reading stops after this many unreadable rows in a row. A damaged page hides a few rows of images, or about a hundred
rows of small messages."""

MOST_TOPICS = 10_000

_TABLES = ("topics", "messages")
_PRAGMAS = ("writable_schema", "trusted_schema", "table_xinfo")
_INSTRUCTIONS_BETWEEN_CHECKS = 1000


class SqliteFile:
    """A ``.db3`` file; see :class:`~eomt_ext_ros.bags.storage.Storage`.

    Reads only plain columns of two tables, since views, triggers and computed columns run code from the file.
    """

    def __init__(self, path: Path, allowance: Allowance) -> None:
        self.problems = Problems(printable(path.name), allowance.limits.problems)
        self._allowance = allowance
        self._topics: dict[int, Topic] = {}
        self._foreign: set[int] = set()  # topics in other encodings
        self._num_timed = 0  # rows with a time, as in the index
        self._rows = array("q")  # three numbers for each message: topic, time, row
        self._check_size(path)
        # A killed recorder may leave its last transactions in a log, which an immutable connection ignores.
        log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
        mode, self._made = "mode=ro&immutable=1", None
        if log.is_file() and log.stat().st_size:
            if os.access(path.parent, os.W_OK):
                mode, self._made = "mode=ro", None if index.exists() else index
            else:
                self.problems.add(
                    f"{printable(log.name)} cannot be read in a read-only folder: copy the bag to another folder"
                )
        self._database = sqlite3.connect(f"file:{quote(os.fsencode(path))}?{mode}", uri=True, isolation_level=None)
        longest = allowance.limits.name_chars
        self._database.text_factory = lambda raw: raw[:longest].decode("utf-8", "replace")
        self._database.set_authorizer(_allowed)
        self._database.set_progress_handler(allowance.query_is_over, _INSTRUCTIONS_BETWEEN_CHECKS)
        try:
            with self._reading():
                self._read_topics()
                self._scan()
                self._compare_with_index()
        except (sqlite3.Error, DatasetError) as error:
            self.problems.add(f"tables cannot be read ({error})")

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics, by name."""
        return {topic.name: topic for topic in self._topics.values()}

    @property
    def start_ns(self) -> int | None:
        """The time at which the first message was received."""
        return min((time_ns for time_ns in self._rows[1::3] if time_ns >= 0), default=None)

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find messages."""
        wanted = {number: topic.name for number, topic in self._topics.items() if topic.name in topics}
        values = iter(self._rows)
        return [
            Location(wanted[number], time_ns, 0, row)
            for number, time_ns, row in zip(values, values, values, strict=True)
            if number in wanted and start_ns <= time_ns < stop_ns
        ]

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message."""
        most = self._allowance.limits.message_bytes
        try:
            with self._reading():
                found = self._database.execute(
                    "SELECT data FROM messages WHERE rowid = ? AND length(data) <= ?", (location.offset, most)
                ).fetchone()
        except sqlite3.Error as error:
            raise DatasetError(f"row {location.offset} cannot be read ({error})") from error
        if found is None or not isinstance(found[0], bytes):
            raise DatasetError(f"row {location.offset} has no message, or one of more than {most} bytes")
        self._allowance.spend(len(found[0]))
        return found[0]

    def close(self) -> None:
        """Close the file."""
        self._database.close()
        if self._made:  # the index of the log, which SQLite leaves behind
            self._made.unlink(missing_ok=True)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise ``ExhaustedError`` instead of SQLite's error if the allowance stopped the query."""
        with self._allowance.query():
            try:
                yield
            except sqlite3.Error:
                self._allowance.check_query()
                raise

    def _read_topics(self) -> None:
        # SQLite refuses truncated files, unless the schema is writable.
        self._database.execute("PRAGMA writable_schema=ON")
        self._database.execute("PRAGMA trusted_schema=OFF")
        for table in _TABLES:
            columns = self._database.execute(f"PRAGMA table_xinfo({table})").fetchall()
            computed = [column[1] for column in columns if column[6]]
            if computed:
                raise DatasetError(f"{table} must have plain columns, {', '.join(computed)} is computed or hidden")
        for number, name, msgtype, encoding in self._database.execute(
            "SELECT id, name, type, serialization_format FROM topics ORDER BY rowid LIMIT ?", (MOST_TOPICS,)
        ):
            self._allowance.check_query()
            if encoding != "cdr":
                self.problems.add(f"topic {name!r} must have the encoding 'cdr', got {encoding!r}")
                self._foreign.add(number)
            elif isinstance(name, str) and isinstance(msgtype, str):
                self._topics[number] = Topic(name, type_name(msgtype))
            else:
                self.problems.add(f"topic {number!r} has no name or type")

    def _scan(self) -> None:
        """Read topic, time and row of every reachable message, in the order of the table.

        Does not touch the index of times nor the data, which are on other pages.
        """
        last, skipped, earlier = -1, 0, set[int]()
        while True:
            try:
                for row, number, time_ns in self._database.execute(
                    "SELECT rowid, topic_id, timestamp FROM messages WHERE rowid > ? ORDER BY rowid", (last + skipped,)
                ):
                    self._allowance.spend(records=1)
                    self._allowance.check_query()
                    if row <= last:  # a damaged page may lead back to rows that were read before
                        earlier = earlier or set(self._rows[2::3])
                        if row in earlier:
                            continue
                    elif skipped:
                        self.problems.add(f"messages in rows {last + 1} to {row - 1} cannot be read")
                    if earlier:
                        earlier.add(row)
                    last, skipped = max(last, row), 0
                    self._add(row, number, time_ns)
            except (sqlite3.Error, OverflowError) as error:
                self._allowance.check_query()
                skipped += 1
                if skipped > MOST_ROWS_SKIPPED:
                    self.problems.add(f"messages{_after(last)} cannot be read ({error})")
                    return
            else:
                if skipped:
                    self.problems.add(f"messages{_after(last)} cannot be read")
                return

    def _add(self, row: int, number: object, time_ns: object) -> None:
        """Add a message, or report why it is lost."""
        self._num_timed += time_ns is not None
        if not isinstance(number, int) or not isinstance(time_ns, int):
            self.problems.add(f"row {row} is lost: it has no topic or time")
        elif number in self._topics:
            self._rows.extend((number, time_ns, row))
        elif number not in self._foreign:
            self.problems.add(f"row {row} is lost: its topic {number} is not in the table of topics")

    def _compare_with_index(self) -> None:
        """Report rows that are in the index of times but not in the table."""
        try:
            # With a condition, SQLite counts in steps that the allowance can stop.
            counting = "SELECT count(timestamp) FROM messages INDEXED BY timestamp_idx WHERE timestamp >= ?"
            (known,) = self._database.execute(counting, (-(1 << 63),)).fetchone()
        except sqlite3.Error as error:
            self._allowance.check_query()
            if not str(error).startswith("no such index"):
                self.problems.add(f"the index of times cannot be read ({error}): messages may be missing")
            return
        if known > self._num_timed:
            self.problems.add(f"only {self._num_timed} of {known} messages in the index of times found")

    def _check_size(self, path: Path) -> None:
        with open_regular(path) as file:
            head, size = file.read(32), os.fstat(file.fileno()).st_size
        page_size, num_pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        claimed = (page_size if page_size != 1 else 1 << 16) * num_pages
        if claimed > size:
            self.problems.add(f"ends after {size} of {claimed} bytes")


def _after(row: int) -> str:
    return f" after row {row}" if row >= 0 else ""


def _allowed(action: int, table: str | None, name: str | None, database: str | None, program: str | None) -> int:
    """Authorise SQLite to read the two tables, but nothing that a view or trigger in the file does."""
    plain = program is None and (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and table in _TABLES)
        or (action == sqlite3.SQLITE_FUNCTION and name in ("length", "count"))
        or (action == sqlite3.SQLITE_PRAGMA and table in _PRAGMAS)
    )
    return sqlite3.SQLITE_OK if plain else sqlite3.SQLITE_DENY
