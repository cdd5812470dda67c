"""Data sets as lists of files, and reading of an image with its labels."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import PLAIN_LABELS, LabelCensus, LabelValues, unknown_values
from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, SegmentTrack
from eomt_ext_core.errors import DatasetError, EomtExtError
from eomt_ext_core.images import read_label_values, read_rgb


@dataclass(frozen=True)
class Sample:
    """One image, and where its labels should be; None if the benchmark keeps them to itself."""

    frame_id: str
    image_path: Path
    label_path: Path | None


@dataclass(frozen=True)
class Dataset:
    """A data set in a known layout.

    ``label_maps``: possible meanings of the values in a label file; the first that covers all values of a file is used.
    ``has_given_values``: whether the user chose that meaning in the place of the layout's.
    ``samples``: sorted by id. ``submission_name``: the name of its folder of scores in the benchmark's code.
    """

    name: str
    layout: str
    root: Path
    samples: tuple[Sample, ...]
    label_maps: tuple[LabelValues, ...] = (PLAIN_LABELS,)
    track: SegmentTrack = ANOMALY_TRACK
    submission_name: str = field(default="")
    has_given_values: bool = False

    def __post_init__(self) -> None:
        if not self.samples:
            raise DatasetError(f"{self.root} has the layout {self.layout!r}, but no image")
        seen: dict[str, Path] = {}
        for sample in self.samples:
            if sample.frame_id in seen:
                raise DatasetError(
                    f"{self.root}: {seen[sample.frame_id].name} and {sample.image_path.name} have the same id"
                )
            seen[sample.frame_id] = sample.image_path
        label_files = [sample.label_path for sample in self.samples if sample.label_path is not None]
        if label_files and not any(path.is_file() for path in label_files):
            raise DatasetError(
                f"{self.root}: no image of the layout {self.layout!r} has a label, such as {label_files[0]}"
            )

    @property
    def num_labelled(self) -> int:
        """Number of images with labels."""
        return sum(sample.label_path is not None for sample in self.samples)

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Read an image (H, W, 3) uint8 RGB and its labels (H, W) uint8, 0, 1 or 255, or None.

        Raises ``ImageError`` if the image cannot be decoded; ``DatasetError`` if the labels are missing or cannot be
        decoded, have a value that the layout does not know, or another size than the image.
        """
        image_rgb = read_rgb(sample.image_path)
        if sample.label_path is None:
            return image_rgb, None
        if not sample.label_path.is_file():
            raise DatasetError(f"{sample.image_path} has no label: {sample.label_path} does not exist")
        values, label_values = self._label_values(sample.label_path)
        labels = label_values.apply(values)
        if labels.shape != image_rgb.shape[:2]:
            sizes = [f"{path} is {array.shape[1]}×{array.shape[0]}" for path, array in
                     ((sample.image_path, image_rgb), (sample.label_path, labels))]  # fmt: skip
            raise DatasetError(f"image and labels must have the same size, {' and '.join(sizes)}")
        return image_rgb, labels

    def check_kinds(self) -> None:
        """Check that the labels have anomalous and normal pixels.

        Reads label files until both are found; those that cannot be read are skipped, :meth:`read` reports them.

        Raises:
            DatasetError: if one of the two is missing in all label files, with the values found and the way out.
        """
        census = LabelCensus()
        for sample in self.samples:
            if sample.label_path is None:
                continue
            with suppress(EomtExtError):
                census.add(*self._label_values(sample.label_path))
            if not census.missing:
                return
        if census.num_maps:
            raise DatasetError(f"{self.name} ({self.root}): {census.problem()}")

    def _label_values(self, path: Path) -> tuple[NDArray[np.uint8], LabelValues]:
        """Read a label file; returns its values and their meaning."""
        values = read_label_values(path)
        foreign = [set(label_map.foreign(values)) for label_map in self.label_maps]
        for label_map, unknown in zip(self.label_maps, foreign, strict=True):
            if not unknown:
                return values, label_map
        named = sorted(set.intersection(*foreign) or set.union(*foreign))
        where = "" if self.has_given_values else f"in the layout {self.layout!r} "
        raise DatasetError(f"{path}: {where}{unknown_values(named, self.label_maps)}")
