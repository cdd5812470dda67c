"""Where the labels of a bag's frames come from: a topic of the same bag, or a folder of PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, ImageError
from eomt_ext_core.images import read_label_values
from eomt_ext_ros.bags import Bag, BagMessage
from eomt_ext_ros.bags.messages import IMAGE_TYPES, deserialize, plane, stamp_ns
from eomt_ext_ros.replay.topics import listed


class Labels(Protocol):
    """Labels of the frames of one camera."""

    def of(self, stamp: int) -> NDArray[Any] | None:
        """The labels of the frame with a stamp (ns): (H, W) integers 0, 1 or 255; None where it has none.

        Raises ``DatasetError`` or ``ImageError`` where they cannot be read.
        """


class NoLabels:
    """A camera without labels."""

    def of(self, stamp: int) -> None:
        """None."""
        return


class LabelTopic:
    """Labels that were recorded, as mono8 images or grey PNGs with the stamp of the image they belong to."""

    def __init__(self, bag: Bag, topic: str, problems: list[str]) -> None:
        self._bag = bag
        self._by_stamp: dict[int, BagMessage] = {}
        self._used: set[int] = set()
        messages = bag.messages([topic])
        if topic not in bag.topics:
            problems.append(f"there is no label topic {topic}; the topics are {listed(sorted(bag.topics))}")
        for message in messages:
            try:
                if message.msgtype not in IMAGE_TYPES:
                    raise ImageError(f"it is of type {message.msgtype or 'unknown'}, not an image", "message")
                stamp = stamp_ns(bag.read(message))
                if stamp in self._by_stamp:
                    problems.append(f"{topic}: labels of the stamp {stamp} come twice, the later ones are used")
                self._by_stamp[stamp] = message
            except (DatasetError, ImageError) as error:
                problems.append(f"a label of {topic} cannot be read: {error}")

    def of(self, stamp: int) -> NDArray[Any] | None:
        """The labels with exactly this stamp."""
        message = self._by_stamp.get(stamp)
        if message is None:
            return None
        self._used.add(stamp)
        return plane(deserialize(self._bag.read(message), message.msgtype), message.msgtype)

    @property
    def num_unused(self) -> int:
        """Labels that no frame has asked for."""
        return len(self._by_stamp.keys() - self._used)


class LabelFolder:
    """Grey PNGs named by the stamp of their image, ``1700000000.123456789.png`` or ``1700000000123456789.png``.

    They lie in the folder itself, or in a folder within it that has the name of the bag, of the camera, or both.
    """

    def __init__(self, folder: Path, bag: str, camera: str) -> None:
        nested = [folder / bag / camera, folder / bag, folder / camera, folder]
        self._folders = list(dict.fromkeys(candidate for candidate in nested if candidate.is_dir()))

    def of(self, stamp: int) -> NDArray[Any] | None:
        """The labels in the first file that is there, the most specific folder first."""
        seconds, nanoseconds = divmod(stamp, 1_000_000_000)
        for folder in self._folders:
            for name in (f"{seconds}.{nanoseconds:09d}.png", f"{stamp}.png"):
                path = folder / name
                if path.is_file():
                    return read_label_values(path)
        return None
