"""Reading rosbag2's sqlite3 files row by row, past damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags.storage import Location, Topic

MOST_ROWS_SKIPPED = 1000
"""A damaged page hides a few rows of images, or about a hundred of small messages. After as many unreadable rows in
sequence as this the rest of the file is given up."""


class SqliteFile:
    """A ``.db3`` file; see :class:`~eomt_ext_ros.bags.storage.Storage`."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path
        self._topics: dict[int, Topic] = {}
        self._rows: list[tuple[int, int, int]] = []  # topic, time, row
        # A recorder that was killed may leave its last transactions in a log, which only a plain connection reads.
        wal = path.with_name(path.name + "-wal")
        mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
        self._database = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None)
        self._database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            # SQLite refuses files that are shorter than they say, unless it is told to expect damage.
            self._database.execute("PRAGMA writable_schema=ON")
            for number, name, msgtype, encoding in self._database.execute(
                "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
            ):
                if encoding != "cdr":
                    self._report(f"topic {name} is encoded as {encoding!r}, only 'cdr' can be read")
                else:
                    self._topics[number] = Topic(str(name), str(msgtype))
        except sqlite3.Error as error:
            self._report(f"its list of topics cannot be read ({error})")
        else:
            self._rows = list(self._scan())
        self._check_size()

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics, by name."""
        return {topic.name: topic for topic in self._topics.values()}

    @property
    def start_ns(self) -> int | None:
        """When the first message was received."""
        return min((time_ns for _, time_ns, _ in self._rows), default=None)

    def locate(self, topics: Collection[str], start_ns: int, stop_ns: int) -> list[Location]:
        """Find messages."""
        wanted = {number: topic.name for number, topic in self._topics.items() if topic.name in topics}
        return [
            Location(wanted[number], time_ns, 0, row)
            for number, time_ns, row in self._rows
            if number in wanted and start_ns <= time_ns < stop_ns
        ]

    def read(self, location: Location) -> bytes:
        """Return the bytes of a message."""
        try:
            found = self._database.execute("SELECT data FROM messages WHERE id = ?", (location.offset,)).fetchone()
        except sqlite3.Error as error:
            raise DatasetError(f"{self._path.name}: row {location.offset} cannot be read ({error})") from error
        if found is None or not isinstance(found[0], bytes):
            raise DatasetError(f"{self._path.name}: row {location.offset} holds no message")
        return found[0]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _scan(self) -> Iterator[tuple[int, int, int]]:
        """Topic, time and row of every message that can be reached, in the order of the table.

        Neither the index of times nor the data, which lie on pages of their own, are touched.
        """
        last, skipped = -1, 0
        while True:
            try:
                for row, number, time_ns in self._database.execute(
                    "SELECT id, topic_id, timestamp FROM messages WHERE id > ? ORDER BY id", (last + skipped,)
                ):
                    if row <= last:
                        continue  # a damaged page leads back: what it shows again is not taken twice
                    if skipped:
                        self._report(f"rows {last + 1} to {row - 1} of its messages cannot be read")
                    last, skipped = int(row), 0
                    if isinstance(number, int) and isinstance(time_ns, int):
                        yield number, time_ns, last
                    else:
                        self._report(f"row {row} has no topic or time")
            except (sqlite3.Error, OverflowError) as error:
                skipped += 1
                if skipped > MOST_ROWS_SKIPPED:
                    self._report(f"its messages after row {last} cannot be read ({error})")
                    return
            else:
                if skipped:
                    self._report(f"its messages after row {last} cannot be read")
                return

    def _check_size(self) -> None:
        with self._path.open("rb") as file:
            head = file.read(32)
        page_size, num_pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        said, there = (page_size if page_size != 1 else 1 << 16) * num_pages, self._path.stat().st_size
        if said > there:
            self._report(f"it ends after {there} of {said} bytes")

    def _report(self, problem: str) -> None:
        self.problems.append(f"{self._path.name}: {problem}")
