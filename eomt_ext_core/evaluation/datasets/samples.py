"""A data set as a list of files, and the reading of one of its images with its labels."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError, EomtExtError, ImageError
from eomt_ext_core.evaluation.labels import PLAIN_LABELS, LabelCensus, LabelValues, unknown_values
from eomt_ext_core.evaluation.segment_metrics import ANOMALY_TRACK, SegmentTrack

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Sample:
    """One image; ``label_path`` is None where the benchmark keeps its labels to itself."""

    frame_id: str
    image_path: Path
    label_path: Path | None


@dataclass(frozen=True)
class Dataset:
    """A data set in a layout that has been recognised.

    ``label_maps``: what the values of a label file mean; where there are several, the first that knows all values of a
    file is taken for it. ``samples``: sorted by id. ``submission_name``: the name under which the benchmark's code
    looks for scores.
    """

    name: str
    layout: str
    root: Path
    samples: tuple[Sample, ...]
    label_maps: tuple[LabelValues, ...] = (PLAIN_LABELS,)
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
        values, label_values = self._label_values(sample.label_path)
        labels = label_values.apply(values)
        if labels.shape != image_rgb.shape[:2]:
            sizes = [f"{path} is {array.shape[1]}×{array.shape[0]}" for path, array in
                     ((sample.image_path, image_rgb), (sample.label_path, labels))]  # fmt: skip
            raise DatasetError(f"image and labels must have the same size, {' and '.join(sizes)}")
        return image_rgb, labels

    def check_kinds(self) -> None:
        """Refuse labels without one anomalous or one normal pixel, and say what their values may mean.

        Reads label files until both kinds were met. Those that cannot be read are left to :meth:`read`.

        Raises:
            DatasetError: where one of the two is missing in all label files.
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
        """What is stored in a label file, and what it means."""
        values = _read_label_values(path)
        foreign = [set(label_map.foreign(values)) for label_map in self.label_maps]
        for label_map, unknown in zip(self.label_maps, foreign, strict=True):
            if not unknown:
                return values, label_map
        named = sorted(set.intersection(*foreign) or set.union(*foreign))
        raise DatasetError(f"{path}: in the layout {self.layout!r} {unknown_values(named, self.label_maps)}")


def read_rgb(path: str | Path, *, turn: bool = False) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 RGB.

    Args:
        path: of a file that OpenCV decodes.
        turn: by the orientation that a camera noted in it; labels are drawn on images as they are stored.

    Raises:
        ImageError: where the file is missing, or no image.
    """
    flags = cv2.IMREAD_COLOR if turn else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image_bgr = cv2.imread(str(path), flags)
    if image_bgr is None:
        state = "cannot be decoded as an image" if Path(path).is_file() else "is not there"
        raise ImageError(f"{path} {state}", reason="encoding")
    return np.ascontiguousarray(image_bgr[..., ::-1], dtype=np.uint8)


def _read_label_values(path: Path) -> NDArray[np.uint8]:
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None:
        raise DatasetError(f"{path} cannot be decoded as an image of labels")
    if values.dtype != np.uint8:
        raise DatasetError(f"{path}: labels must have 8 bits, got {values.dtype}")
    if values.ndim == 3:
        if any((values[..., channel] != values[..., 0]).any() for channel in (1, 2)):
            raise DatasetError(
                f"{path}: labels must be grey values, got colours: is this the coloured version for people?"
            )
        values = values[..., 0]
    return np.asarray(values, dtype=np.uint8)
