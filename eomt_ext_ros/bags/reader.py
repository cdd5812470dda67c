"""Reading recorded bags, whole or damaged, without ROS."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, BinaryIO

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags.mcap import McapFile
from eomt_ext_ros.bags.sqlite import SqliteFile
from eomt_ext_ros.bags.storage import ZSTD_MAGIC, Location, Storage, Topic, unzstd, zstd

_STORAGES: dict[str, type[McapFile] | type[SqliteFile]] = {".mcap": McapFile, ".db3": SqliteFile}
_MOST_BYTES = 1 << 30  # of one message
_BLOCK_BYTES = 1 << 20
_FOREVER_NS = 1 << 63


@dataclass(frozen=True)
class BagMessage:
    """A message of a bag: when it was received, and where its bytes are."""

    topic: str
    time_ns: int
    file: int
    location: Location


class Bag:
    """A rosbag2: a folder with ``metadata.yaml``, or a single ``.mcap`` or ``.db3`` file. A context manager.

    mcap and sqlite3, uncompressed or compressed with zstd (whole files, messages, or mcap chunks, those also with lz4).
    A bag that is cut short or damaged is read as far as it can be. What cannot be read is said in ``problems``.

    Args:
        path: of the folder or file.

    Raises:
        DatasetError: where there is no such bag.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._problems: list[str] = []
        self._expected: dict[str, int] = {}
        self._files: list[Storage] = []
        self._stack = ExitStack()
        with ExitStack() as stack:
            for file in self._storage_paths():
                try:
                    storage = _open(file, stack, self._problems)
                except OSError as error:
                    self._problems.append(f"{file.name}: cannot be opened ({error})")
                else:
                    stack.callback(storage.close)
                    self._files.append(storage)
            self._stack = stack.pop_all()

    @property
    def name(self) -> str:
        """The name of the folder or file, without suffixes."""
        return self.path.resolve().name.split(".")[0] if self.path.is_file() else self.path.resolve().name

    @property
    def problems(self) -> list[str]:
        """What could not be read so far, one line each."""
        return [*self._problems, *(problem for file in self._files for problem in file.problems)]

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics of all files, by name."""
        return {name: topic for file in self._files for name, topic in file.topics.items()}

    @property
    def start_ns(self) -> int:
        """When the first message of any topic was received; 0 in an empty bag."""
        return min((file.start_ns for file in self._files if file.start_ns is not None), default=0)

    def messages(
        self, topics: Collection[str], start_s: float = 0.0, duration_s: float | None = None
    ) -> list[BagMessage]:
        """Find the messages of some topics, ordered by the time they were received at, then as they lie in the bag.

        Args:
            topics: their names.
            start_s: seconds from the bag's first message of any topic to the first that is wanted.
            duration_s: seconds from there to the first that is no longer wanted, or None for all.
        """
        first_ns = self.start_ns + round(start_s * 1e9) if start_s else -_FOREVER_NS
        stop_ns = _FOREVER_NS
        if duration_s is not None:
            stop_ns = max(first_ns, self.start_ns) + round(duration_s * 1e9)
        found = [
            BagMessage(location.topic, location.time_ns, number, location)
            for number, file in enumerate(self._files)
            for location in file.locate(topics, first_ns, stop_ns)
        ]
        if first_ns <= self.start_ns and duration_s is None:
            self._compare(topics, found)
        return sorted(found, key=lambda message: message.time_ns)

    def read(self, message: BagMessage) -> bytes:
        """Return the bytes of a message. Raises ``DatasetError`` where they cannot be read."""
        data = self._files[message.file].read(message.location)
        if not data.startswith(ZSTD_MAGIC):  # how a serialised message cannot begin
            return data
        try:
            content, whole = unzstd(data, _MOST_BYTES)
        except zstd.ZstdError as error:
            raise DatasetError(f"{self.name}: a compressed message of {message.topic} is damaged ({error})") from error
        if not whole:
            raise DatasetError(f"{self.name}: a compressed message of {message.topic} is cut short")
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
        """The files of the bag in the order of recording."""
        if self.path.is_file():
            if _kind(self.path) is None:
                raise DatasetError(f"a bag must be a folder, or a .mcap or .db3 file, got {self.path}")
            return [self.path]
        if not self.path.is_dir():
            raise DatasetError(f"a bag must be a folder or a file, there is no {self.path}")
        there = sorted((file for file in self.path.iterdir() if _kind(file)), key=_by_number)
        listed: list[Path] | None = None
        try:
            listed = self._read_metadata()
        except FileNotFoundError:
            self._problems.append("metadata.yaml is missing, as it is when the recording was not ended")
        except Exception as error:  # it is somebody's text: whatever is wrong in it comes as whatever error
            self._problems.append(f"metadata.yaml cannot be read ({type(error).__name__}: {error})".splitlines()[0])
        if not there and not listed:
            raise DatasetError(f"a bag must hold .mcap or .db3 files, found none in {self.path}")
        if listed is None:
            return there
        for file in listed:
            if file not in there:
                self._problems.append(f"{file.name}: is missing")
        unlisted = [file for file in there if file not in listed]
        if unlisted:
            self._problems.append(f"metadata.yaml does not list {', '.join(file.name for file in unlisted)}: read too")
        return [file for file in listed if file in there] + unlisted

    def _read_metadata(self) -> list[Path]:
        import yaml

        with (self.path / "metadata.yaml").open(encoding="utf-8") as file:
            info: dict[str, Any] = yaml.safe_load(file)["rosbag2_bagfile_information"]
        listed = [self.path / PurePath(str(name)).name for name in info["relative_file_paths"]]
        for entry in info["topics_with_message_count"]:
            self._expected[str(entry["topic_metadata"]["name"])] = int(entry["message_count"])
        return listed

    def _compare(self, topics: Collection[str], found: list[BagMessage]) -> None:
        """Say which topics have fewer messages than the recorder counted."""
        counts = Counter(message.topic for message in found)
        for topic in topics:
            expected = self._expected.get(topic, 0)
            problem = f"{topic}: {counts[topic]} of {expected} recorded messages are there"
            if counts[topic] < expected and problem not in self._problems:
                self._problems.append(problem)


def _kind(path: Path) -> type[McapFile] | type[SqliteFile] | None:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".zstd"]
    return _STORAGES.get(suffixes[-1]) if suffixes else None


def _by_number(path: Path) -> tuple[int, str]:
    """Files of a split recording end in _0, _1, … _10."""
    number = path.name.split(".")[0].rpartition("_")[2]
    return (int(number) if number.isascii() and number.isdigit() else -1, path.name)


def _open(path: Path, stack: ExitStack, problems: list[str]) -> Storage:
    kind = _kind(path)
    assert kind is not None, "only files of a known kind are opened"
    if path.suffix != ".zstd":
        return kind(path)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eomt_ext_bag_")))
    with path.open("rb") as source, (folder / path.stem).open("wb") as target:
        problem = _decompress(source, target)
    if problem:
        problems.append(f"{path.name}: {problem}")
    return kind(folder / path.stem)


def _decompress(source: BinaryIO, target: BinaryIO) -> str | None:
    """Decompress a file as far as it goes; returns what is wrong with it."""
    frame, data = zstd.ZstdDecompressor(), source.read(_BLOCK_BYTES)
    while data:
        try:
            target.write(frame.decompress(data))
        except zstd.ZstdError as error:
            return f"the compressed file is damaged ({error}), its first {target.tell()} bytes are read"
        data = frame.unused_data if frame.eof else b""
        if frame.eof:
            frame = zstd.ZstdDecompressor()
            if not data:
                data = source.read(_BLOCK_BYTES)
                if not data:
                    return None
        else:
            data = source.read(_BLOCK_BYTES)
    return f"the compressed file is cut short, its first {target.tell()} bytes are read"
