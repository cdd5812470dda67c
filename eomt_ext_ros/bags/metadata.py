"""Safe reading of ``metadata.yaml``: files and message counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from eomt_ext_core.errors import DatasetError
from eomt_ext_ros.bags.limits import BagLimits
from eomt_ext_ros.bags.storage import open_regular

_MAX_DEPTH = 20


@dataclass(frozen=True)
class Metadata:
    """The recorder's description of a bag: the names of its files, and the number of messages of each topic."""

    files: tuple[str, ...]
    counts: dict[str, int]


def read_metadata(folder: Path, limits: BagLimits) -> Metadata:
    """Read the ``metadata.yaml`` of a bag.

    Raises:
        FileNotFoundError: if there is none.
        DatasetError: if it cannot be read, is too large, or lacks an entry.
    """
    import yaml

    try:
        with open_regular(folder / "metadata.yaml") as file:
            text = file.read(limits.metadata_bytes + 1)
        if len(text) > limits.metadata_bytes:
            raise DatasetError(f"it must have at most {limits.metadata_bytes} bytes")
        # Parse events, not objects, so that tags and aliases in the text have no effect.
        events = yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        begins = (event for event in events if isinstance(event, yaml.NodeEvent))
        node = _node(yaml, next(begins, None), events, _MAX_DEPTH)
        info = node["rosbag2_bagfile_information"]
        files = tuple(PurePath(name).name for name in info["relative_file_paths"])
        topics = info["topics_with_message_count"]
        return Metadata(files, {entry["topic_metadata"]["name"]: int(entry["message_count"]) for entry in topics})
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged text can raise any exception
        raise DatasetError(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _node(yaml: Any, event: Any, events: Iterator[Any], depth: int) -> Any:
    """Build dictionaries, lists and strings from the events of a node; ``event`` is the first of them."""
    if isinstance(event, yaml.AliasEvent) or depth == 0:
        raise DatasetError(f"it must have no aliases and at most {_MAX_DEPTH} levels")
    if isinstance(event, yaml.ScalarEvent):
        return event.value
    parts = []
    while not isinstance(inner := next(events), yaml.CollectionEndEvent):
        parts.append(_node(yaml, inner, events, depth - 1))
    if isinstance(event, yaml.SequenceStartEvent):
        return parts
    keys = [key if isinstance(key, str) else "" for key in parts[::2]]
    return dict(zip(keys, parts[1::2], strict=True))
