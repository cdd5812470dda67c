"""Writing bags that ``ros2 bag play`` and Foxglove open."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from eomt_ext_ros.bags.messages import IMAGE


class BagWriter:
    """Write a rosbag2 folder (mcap, chunks compressed with zstd); a context manager.

    The folder takes its name when it is whole, in the place of one that was there before. That happens also where the
    block ends with an exception: what was written until then is kept.

    Args:
        folder: of the bag.
    """

    def __init__(self, folder: Path) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        self._folder = folder
        # The file inside is named after its folder, so the folder has its final name, inside a temporary one.
        self._temporary = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._writer = Writer(self._temporary / folder.name, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def add_topic(self, topic: str, msgtype: str = IMAGE) -> None:
        """Declare a topic, so that it is in the bag even without messages."""
        from eomt_ext_ros.bags.messages import typestore

        self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=typestore())

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        """Append a serialised message, received at a time, to a topic; one not declared before holds images."""
        if topic not in self._connections:
            self.add_topic(topic)
        self._writer.write(self._connections[topic], time_ns, data)

    def close(self) -> None:
        """Finish the bag and give it its name."""
        self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._temporary / self._folder.name).rename(self._folder)
        self._temporary.rmdir()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
