"""Writing of bags for ``ros2 bag play`` and Foxglove."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import printable
from eomt_ext_ros.bags.messages import IMAGE


class BagWriter:
    """Write a rosbag2 folder (mcap, chunks compressed with zstd); a context manager.

    The folder gets its name when it is complete. If the block ends with an exception, the messages so far are kept.

    Args:
        folder: of the bag.

    Raises:
        ConfigError: if the folder exists; it does not change.
    """

    def __init__(self, folder: Path) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        if folder.exists():
            raise ConfigError(f"a bag needs a new folder, {printable(folder)} exists: remove it, or choose another")
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The file inside is named after its folder: the folder has its final name inside a temporary one.
        self._temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
        self._writer = Writer(self._temporary / folder.name, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def add_topic(self, topic: str, msgtype: str = IMAGE) -> None:
        """Declare a topic, which is then in the bag even without messages."""
        from eomt_ext_ros.bags.messages import typestore

        self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=typestore())

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        """Append a serialised message with its time of receipt; an undeclared topic is declared as one of images."""
        if topic not in self._connections:
            self.add_topic(topic)
        self._writer.write(self._connections[topic], time_ns, data)

    def close(self) -> None:
        """Complete the bag and give it its name."""
        self._writer.close()
        (self._temporary / self._folder.name).rename(self._folder)
        self._temporary.rmdir()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
