"""A bag as a drive to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import printable
from eomt_ext_ros.bags.messages import IMAGE_TYPES, deserialize, image_rgb
from eomt_ext_ros.bags.reader import Bag


@dataclass(frozen=True)
class BagDrive:
    """The images of a topic of a bag, in the order they were received in."""

    path: Path
    topic: str
    name: str
    num_images: int

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """Give every n-th image of a part, each (H, W, 3) uint8 RGB.

        Raises:
            ImageError, DatasetError: if one cannot be read.
        """
        with Bag(self.path) as bag:
            for message in bag.messages([self.topic])[start:stop:every]:
                yield image_rgb(deserialize(bag.read(message), message.msgtype), message.msgtype)


def open_drive(path: Path, topic: str | None) -> BagDrive:
    """Open a bag as a drive.

    Raises:
        ConfigError: if the topic is not one of images in the bag.
    """
    with Bag(path) as bag:
        messages = [] if topic is None else bag.messages([topic])
        images = sorted(name for name, found in bag.topics.items() if found.msgtype in IMAGE_TYPES)
        if topic not in images or not messages:
            raise ConfigError(
                f"--image-topic must be one with images in {printable(path)}: {', '.join(images) or 'it has none'}; "
                f"got {topic or 'none'}"
            )
        return BagDrive(path, str(topic), printable(bag.name), len(messages))
