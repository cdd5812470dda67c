"""Obstacles as rows of a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from eomt_ext_core.files import atomic_write
from eomt_ext_core.obstacles import ObstacleFrame, Reason

COLUMNS = (
    "track_id", "state", "evidence", "score", "left", "top", "width", "height", "area_px", "range_m", "sigma_range_m",
    *Reason._fields,
)  # fmt: skip

Range = tuple[float, float]
"""Metres to an obstacle along the ground, and their standard deviation."""


def obstacle_rows(
    found: ObstacleFrame, why: Sequence[Reason | None] = (), ranges: Sequence[Range | None] = ()
) -> list[dict[str, Any]]:
    """Give the obstacles of an image as rows by column.

    Args:
        found: the obstacles.
        why: a reason for each listed one, if they are known.
        ranges: the range of each listed one, if they are known.
    """
    rows = []
    for index, each in enumerate(found.listed):
        reason = why[index] if why else None
        evidence = "" if each.evidence is None else f"{each.evidence:.4f}"
        metres = ranges[index] if ranges else None
        far = ("", "") if metres is None else tuple(f"{value:.2f}" for value in metres)
        known = each.track_id, each.state, evidence, f"{each.score:.4f}", *each.box_xywh, each.area_px, *far
        texts = [""] * len(Reason._fields) if reason is None else [*reason[:2], *(f"{x:.4f}" for x in reason[2:])]
        rows.append(dict(zip(COLUMNS, (*known, *texts), strict=True)))
    return rows


class ObstacleRecord:
    """Write a CSV file with a row for each obstacle of each image, those that coast included.

    Boxes are in pixels, ranges in metres; what an obstacle does not have is left empty.

    Args:
        file: to write to.
        image_columns: names of what tells an image from the others.
    """

    def __init__(self, file: TextIO, *image_columns: str) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow((*image_columns, *COLUMNS))

    def add(
        self,
        found: ObstacleFrame,
        *image: object,
        why: Sequence[Reason | None] = (),
        ranges: Sequence[Range | None] = (),
    ) -> list[dict[str, Any]]:
        """Write the rows of :func:`obstacle_rows`, each after the columns of its image, and return them."""
        rows = obstacle_rows(found, why, ranges)
        for row in rows:
            self._rows.writerow((*image, *row.values()))
        return rows


@contextmanager
def obstacle_record(path: Path, *image_columns: str) -> Iterator[ObstacleRecord]:
    """Write a table to a file, which is there when the block ends well; names may be any bytes.

    Raises:
        OutputError: if it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield ObstacleRecord(file, *image_columns)
