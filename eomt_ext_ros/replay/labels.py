"""Labels of a bag's frames, from a topic of the same bag or from a folder of PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.images import read_label_values
from eomt_ext_ros.bags import Bag, BagMessage
from eomt_ext_ros.bags.messages import IMAGE_TYPES, deserialize, plane
from eomt_ext_ros.bags.messages import stamp_ns as message_stamp_ns
from eomt_ext_ros.replay.topics import listed


class Labels(Protocol):
    """Labels of the frames of one camera."""

    def read(self, stamp_ns: int) -> NDArray[Any] | None:
        """Return the labels of the frame with this stamp: (H, W) integers 0, 1 or 255; None if it has none.

        Raises ``DatasetError`` or ``ImageError`` if they cannot be read.
        """


class NoLabels:
    """A camera without labels."""

    def read(self, stamp_ns: int) -> None:
        """Return None."""
        return


class LabelTopic:
    """Recorded labels: mono8 images or grey PNGs, each with the stamp of its image."""

    def __init__(self, bag: Bag, topic: str, problems: list[str]) -> None:
        self._bag = bag
        self._by_stamp: dict[int, BagMessage] = {}
        self._used: set[int] = set()
        messages = bag.messages([topic])
        if topic not in bag.topics:
            problems.append(f"label topic {topic} is not in the bag; its topics are {listed(sorted(bag.topics))}")
        for message in messages:
            try:
                if message.msgtype not in IMAGE_TYPES:
                    raise ImageError(f"its type must be an image, got {message.msgtype or 'unknown'}", "message")
                stamp = message_stamp_ns(bag.read(message))
                if stamp in self._by_stamp:
                    problems.append(f"{topic}: two labels have the stamp {stamp}; the later one is used")
                self._by_stamp[stamp] = message
            except (DatasetError, ImageError) as error:
                problems.append(f"a label of {topic} cannot be read: {error}")

    def read(self, stamp_ns: int) -> NDArray[Any] | None:
        """Return the labels with exactly this stamp."""
        message = self._by_stamp.get(stamp_ns)
        if message is None:
            return None
        self._used.add(stamp_ns)
        return plane(deserialize(self._bag.read(message), message.msgtype), message.msgtype)

    @property
    def num_unused(self) -> int:
        """Number of labels that no frame has used."""
        return len(self._by_stamp.keys() - self._used)


class LabelFolder:
    """Grey PNGs named by the stamp of their image, ``1700000000.123456789.png`` or ``1700000000123456789.png``.

    They are in the folder itself, or in a subfolder named after the bag, the camera, or both.
    """

    def __init__(self, folder: Path, bag: str, camera: str) -> None:
        nested = [folder / bag / camera, folder / bag, folder / camera, folder]
        self._folders = list(dict.fromkeys(candidate for candidate in nested if candidate.is_dir()))

    def read(self, stamp_ns: int) -> NDArray[Any] | None:
        """Return the labels of the first file found, the most specific folder first."""
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        for folder in self._folders:
            for name in (f"{seconds}.{nanoseconds:09d}.png", f"{stamp_ns}.png"):
                path = folder / name
                if path.is_file():
                    return read_label_values(path)
        return None
