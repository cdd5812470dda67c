"""A data set as a list of files, and the reading of one of its images with its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.evaluation.labels import ANOMALOUS, NORMAL, VOID
from eomt_ext_core.evaluation.segment_metrics import ANOMALY_TRACK, SegmentTrack
from eomt_ext_core.images import read_label_values, read_rgb

PLAIN_LABELS: Mapping[int, int] = {0: NORMAL, 1: ANOMALOUS, 255: VOID}


@dataclass(frozen=True)
class Sample:
    """One image; ``label_path`` is None where the benchmark keeps its labels to itself."""

    frame_id: str
    image_path: Path
    label_path: Path | None


@dataclass(frozen=True)
class Dataset:
    """A data set in a layout that has been recognised.

    ``label_maps``: what the values of a label file mean (0 normal, 1 anomalous, 255 void); where there are several,
    the first that knows all values of a file is taken for it. ``samples``: sorted by id. ``submission_name``: the name
    under which the benchmark's code looks for scores.
    """

    name: str
    layout: str
    root: Path
    samples: tuple[Sample, ...]
    label_maps: tuple[Mapping[int, int], ...] = (PLAIN_LABELS,)
    track: SegmentTrack = ANOMALY_TRACK
    submission_name: str = field(default="")

    def __post_init__(self) -> None:
        if not self.samples:
            raise DatasetError(f"{self.root}: the layout {self.layout!r} is there, but it holds no image")
        seen: dict[str, Path] = {}
        for sample in self.samples:
            if sample.frame_id in seen:
                raise DatasetError(
                    f"{self.root}: {seen[sample.frame_id].name} and {sample.image_path.name} have one id"
                )
            seen[sample.frame_id] = sample.image_path

    @property
    def num_labelled(self) -> int:
        """Images that have labels."""
        return sum(sample.label_path is not None for sample in self.samples)

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Read an image (H, W, 3) uint8 RGB and its labels (H, W) uint8, 0, 1 or 255, or none.

        Raises ``ImageError`` where the image cannot be decoded; ``DatasetError`` where the labels cannot, have a value
        that the layout does not know, or another size than the image.
        """
        image_rgb = read_rgb(sample.image_path)
        if sample.label_path is None:
            return image_rgb, None
        labels = self._meaning(read_label_values(sample.label_path), sample.label_path)
        if labels.shape != image_rgb.shape[:2]:
            sizes = [f"{path} is {array.shape[1]}×{array.shape[0]}" for path, array in
                     ((sample.image_path, image_rgb), (sample.label_path, labels))]  # fmt: skip
            raise DatasetError(f"image and labels must have the same size, {' and '.join(sizes)}")
        return image_rgb, labels

    def _meaning(self, values: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
        for label_map in self.label_maps:
            if set(present) <= set(label_map):
                table = np.zeros(256, dtype=np.uint8)
                table[list(label_map)] = list(label_map.values())
                return np.asarray(table[values], dtype=np.uint8)
        known = " or ".join(_ranges(label_map) for label_map in self.label_maps)
        foreign = sorted(set(present) - set().union(*self.label_maps)) or present
        raise DatasetError(f"{path}: the label values of the layout {self.layout!r} are {known}, got {_named(foreign)}")


def _ranges(label_map: Mapping[int, int]) -> str:
    names = {NORMAL: "normal", ANOMALOUS: "anomalous", VOID: "void"}
    parts = []
    for kind, name in names.items():
        values = [value for value, meaning in label_map.items() if meaning == kind]
        if values:
            parts.append(f"{_named(sorted(values))} ({name})")
    return ", ".join(parts)


def _named(values: list[int]) -> str:
    if len(values) > 3 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}…{values[-1]}"
    return ", ".join(str(value) for value in values[:8]) + (", …" if len(values) > 8 else "")
