"""Obstacles as rows of a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from eomt_ext_core.files import atomic_write
from eomt_ext_core.obstacles import ObstacleFrame

COLUMNS = ("track_id", "state", "evidence", "score", "left", "top", "width", "height", "area_px")


class ObstacleRecord:
    """Write a CSV file with a row for each obstacle of each image, those that coast included.

    Boxes are in pixels; what an obstacle does not have is left empty.

    Args:
        file: to write to.
        image_columns: names of what tells an image from the others.
    """

    def __init__(self, file: TextIO, *image_columns: str) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow((*image_columns, *COLUMNS))

    def add(self, found: ObstacleFrame, *image: object) -> None:
        """Write the obstacles of an image, whose own columns are ``image``."""
        for each in found.listed:
            evidence = "" if each.evidence is None else f"{each.evidence:.4f}"
            known = each.track_id, each.state, evidence, f"{each.score:.4f}"
            self._rows.writerow((*image, *known, *each.box_xywh, each.area_px))


@contextmanager
def obstacle_record(path: Path, *image_columns: str) -> Iterator[ObstacleRecord]:
    """Write a table to a file, which is there when the block ends well; names may be any bytes.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield ObstacleRecord(file, *image_columns)
