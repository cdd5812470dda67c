"""Reading of intact and damaged bags without ROS."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import printable
from eomt_ext_ros.bags.compression import ZSTD_MAGIC, DamagedFrameError, inflate, inflate_all, start_zstd
from eomt_ext_ros.bags.limits import Allowance, BagLimits
from eomt_ext_ros.bags.mcap import McapFile
from eomt_ext_ros.bags.metadata import read_metadata
from eomt_ext_ros.bags.sqlite import SqliteFile
from eomt_ext_ros.bags.storage import Location, Storage, Topic, open_regular

_STORAGES: dict[str, type[McapFile] | type[SqliteFile]] = {".mcap": McapFile, ".db3": SqliteFile}
_SPARE_BYTES = 256 << 20  # always left free on the disk
_FIRST_NS, _AFTER_LAST_NS = -(1 << 63), 1 << 64  # sqlite3 has signed times, mcap unsigned ones


@dataclass(frozen=True)
class _File:
    storage: Storage
    allowance: Allowance


class BagMessage(NamedTuple):
    """A message of a bag: its topic, type, time of receipt, and the location of its bytes."""

    topic: str
    msgtype: str
    time_ns: int
    file: int
    location: Location


class Bag:
    """A rosbag2: a folder with ``metadata.yaml``, or a single ``.mcap`` or ``.db3`` file. A context manager.

    Reads mcap and sqlite3, uncompressed or compressed with zstd (files, messages or mcap chunks; chunks also with lz4).
    A truncated or damaged bag is read as far as possible; ``problems`` lists what could not be read.

    Args:
        path: of the folder or file.
        limits: on memory and work, since bags come from strangers.

    Raises:
        DatasetError: if there is no such bag.
    """

    def __init__(self, path: str | Path, limits: BagLimits | None = None) -> None:
        self.path = Path(path)
        self._limits = limits or BagLimits()
        self._problems: list[str] = []
        self._expected: dict[str, int] = {}
        self._files: list[_File] = []
        self._stack = ExitStack()
        with ExitStack() as stack:
            for file in self._storage_paths():
                try:
                    self._open(file, stack)
                except (OSError, sqlite3.Error) as error:
                    self._problems.append(f"{printable(file.name)}: cannot be opened ({error})")
            self._stack = stack.pop_all()

    @property
    def name(self) -> str:
        """The name of the folder or file without suffixes."""
        path = self.path.resolve()
        return path.name.split(".")[0] if path.is_file() else path.name

    @property
    def problems(self) -> list[str]:
        """The problems so far, a line each."""
        return [*self._problems, *(line for file in self._files for line in file.storage.problems.lines)]

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics of all files, by name."""
        return {name: topic for file in self._files for name, topic in file.storage.topics.items()}

    @property
    def start_ns(self) -> int:
        """The time at which the first message was received, of any topic; 0 in an empty bag."""
        starts = [file.storage.start_ns for file in self._files]
        return min((start_ns for start_ns in starts if start_ns is not None), default=0)

    def messages(
        self, topics: Collection[str], start_s: float = 0.0, duration_s: float | None = None
    ) -> list[BagMessage]:
        """Find the messages of some topics, in the order of receipt, then of the bag.

        Args:
            topics: names of the topics.
            start_s: start of the range, in seconds after the first message of the bag, of any topic.
            duration_s: length of the range in seconds, or None for all.
        """
        first_ns = self.start_ns + round(start_s * 1e9) if start_s else _FIRST_NS
        stop_ns = _AFTER_LAST_NS
        if duration_s is not None:
            stop_ns = max(first_ns, self.start_ns) + round(duration_s * 1e9)
        found = []
        for number, file in enumerate(self._files):
            locations = file.storage.locate(topics, first_ns, stop_ns)
            types = {name: topic.msgtype for name, topic in file.storage.topics.items()}
            found += [BagMessage(place.topic, types[place.topic], place.time_ns, number, place) for place in locations]
        if first_ns <= self.start_ns and duration_s is None:
            self._compare(topics, found)
        return sorted(found, key=lambda message: message.time_ns)

    def read(self, message: BagMessage) -> bytes:
        """Return the bytes of a message. Raises ``DatasetError`` if they cannot be read."""
        storage, allowance = self._files[message.file].storage, self._files[message.file].allowance
        data = storage.read(message.location)
        if not data.startswith(ZSTD_MAGIC):  # no serialised message begins like this
            return data
        content, problem = inflate_all(data, start_zstd, self._limits.message_bytes, allowance.spend)
        if problem:
            raise DatasetError(f"a compressed message of {message.topic} cannot be read: {problem}")
        return content

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _storage_paths(self) -> list[Path]:
        """List the files of the bag in the order of recording."""
        if self.path.is_file():
            if _kind(self.path) is None:
                raise DatasetError(f"a bag must be a folder, or a .mcap or .db3 file, got {printable(self.path.name)}")
            return [self.path]
        if not self.path.is_dir():
            name = printable(self.path.name)
            what = "is a pipe or device" if self.path.exists() else "does not exist"
            raise DatasetError(f"a bag must be a folder or a file, {name} {what}")
        visible = (file for file in self.path.iterdir() if not file.name.startswith("."))
        present = sorted((file for file in visible if _kind(file)), key=_by_number)
        listed: list[Path] | None = None
        try:
            metadata = read_metadata(self.path, self._limits)
            listed, self._expected = [self.path / name for name in metadata.files], metadata.counts
        except FileNotFoundError:
            self._problems.append("metadata.yaml is missing: the recording was probably not stopped properly")
        except DatasetError as error:
            self._problems.append(f"metadata.yaml cannot be read ({error})")
        if not present and not listed:
            raise DatasetError(f"a bag must contain .mcap or .db3 files, found none in {printable(self.path.name)}")
        if listed is None:
            return present
        for file in listed:
            if file not in present:
                self._problems.append(f"{printable(file.name)}: is missing")
        unlisted = [file for file in present if file not in listed]
        if unlisted:
            names = ", ".join(printable(file.name) for file in unlisted)
            self._problems.append(f"metadata.yaml does not list {names}: reading them too")
        return [file for file in listed if file in present] + unlisted

    def _open(self, path: Path, stack: ExitStack) -> None:
        """Open a file of the bag, after decompressing it if the whole file is compressed."""
        kind = _kind(path)
        assert kind is not None, "only files of a known kind are opened"
        allowance = Allowance(self._limits, path.stat().st_size)
        if path.suffix.lower() == ".zstd":
            path = self._decompress(path, allowance, stack)
        storage = kind(path, allowance)
        stack.callback(storage.close)
        self._files.append(_File(storage, allowance))

    def _decompress(self, path: Path, allowance: Allowance, stack: ExitStack) -> Path:
        """Decompress a file as far as possible, into a temporary folder that exists while the bag is open."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eomt_ext_bag_")))
        target = folder / path.stem
        with open_regular(path) as source, target.open("wb") as file:
            try:
                for piece in inflate(source.read, start_zstd, allowance.spend):
                    if file.tell() % _SPARE_BYTES < len(piece) and shutil.disk_usage(folder).free < 2 * _SPARE_BYTES:
                        raise DatasetError(f"{folder.parent} is full: free space there, or set TMPDIR")
                    file.write(piece)
            except (DamagedFrameError, DatasetError) as error:
                self._problems.append(f"{printable(path.name)}: {error}; reading its first {file.tell()} bytes")
        return target

    def _compare(self, topics: Collection[str], found: list[BagMessage]) -> None:
        """Report topics with fewer messages than the recorder counted."""
        counts = Counter(message.topic for message in found)
        for topic in topics:
            expected = self._expected.get(topic, 0)
            problem = f"{topic}: only {counts[topic]} of {expected} recorded messages found"
            if counts[topic] < expected and problem not in self._problems:
                self._problems.append(problem)


def _kind(path: Path) -> type[McapFile] | type[SqliteFile] | None:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".zstd"]
    return _STORAGES.get(suffixes[-1]) if suffixes else None


def _by_number(path: Path) -> tuple[int, str]:
    """Sort key: the files of a split recording end in _0, _1, … _10."""
    number = path.name.split(".")[0].rpartition("_")[2]
    return (int(number) if number.isascii() and number.isdigit() else -1, path.name)
