"""What bags and videos need, and how the core's group ``eomt_ext.drives`` reaches it: imports without either."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from eomt_ext_core.errors import ConfigError

if TYPE_CHECKING:
    from eomt_ext_ros.bags.drive import BagDrive

_NEEDED = ("rosbags", "imageio_ffmpeg")


def check_bag_support(user: str) -> None:
    """Raise ``ConfigError`` unless bags and videos can be read and written; ``user`` is what needs it."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{user} needs {' and '.join(missing)}: install the extra 'bags'")


def bag_drive(path: Path, topic: str | None) -> BagDrive | None:
    """Open a bag as a drive to learn from; None if the path is no bag.

    Raises:
        ConfigError: if the topic is not one of images in the bag, or what reads bags is not installed.
    """
    if not (path.suffix in (".mcap", ".db3") or (path / "metadata.yaml").is_file()):
        return None
    check_bag_support("a bag")
    from eomt_ext_ros.bags.drive import open_drive

    return open_drive(path, topic)
