"""Folders of images with anomaly labels."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from eomt_ext_core import datasets as layouts
from eomt_ext_core import images
from eomt_ext_core.datasets.labels import LabelValues
from eomt_ext_core.errors import DatasetError, EomtExtError
from eomt_ext_core.files import printable
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_training.data import views
from eomt_ext_training.data.sample import Sample
from eomt_ext_training.data.stored.image_files import report_skipped, split_readable
from eomt_ext_training.data.views import Augmentation, Views, cut_image, cut_labels


class LabelledImages:
    """Whole images with anomaly labels, in any layout that ``eomt-ext evaluate`` reads.

    Args:
        folder: such as one with ``images/*`` and ``labels/{stem}.png``.
        label_values: the meaning of the values in the labels, if it differs from 0 normal, 1 anomaly, 255 void and
            from that of the layout.

    Attributes:
        skipped: a line for each image that is broken, has no labels, or has labels with other values.

    Raises:
        DatasetError: if nothing readable is left.
    """

    def __init__(self, folder: str | Path, label_values: LabelValues | None = None) -> None:
        self.folder = Path(folder)
        self.label_values = label_values
        found, unlabelled = self._find()
        readable = split_readable(found, _problem_of, str(self.folder))
        self._images = readable.kept
        self.skipped = (*unlabelled, *readable.skipped)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def files(self) -> list[Path]:
        """Images and label maps."""
        return [path for _, item in self._images for path in (item.image_path, item.label_path) if path is not None]

    def key(self, index: int) -> str:
        """Names an image within the folder."""
        return self._images[index][1].frame_id

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (H, W, 3) RGB and labels (H, W): 0 known, 1 anomaly, 255 void."""
        dataset, item = self._images[index]
        image, labels = dataset.read(item)
        assert labels is not None, "images without labels are left out"
        return image, labels

    def check_kinds(self) -> None:
        """Check that the labels have anomalous and normal pixels, unless ``label_values`` were given.

        Raises:
            DatasetError: naming the values found and their possible meaning.
        """
        if self.label_values is not None:
            return
        for dataset in {id(dataset): dataset for dataset, _ in self._images}.values():
            replace(dataset, samples=tuple(item for owner, item in self._images if owner is dataset)).check_kinds()

    def _find(self) -> tuple[list[tuple[layouts.Dataset, layouts.Sample]], list[str]]:
        opened = layouts.open_datasets(self.folder, label_values=self.label_values)
        every = [(dataset, item) for dataset in opened for item in dataset.samples]
        found = [(dataset, item) for dataset, item in every if item.label_path is not None]
        unlabelled = [f"{printable(item.image_path)}: has no labels" for _, item in every if item.label_path is None]
        if not found:
            raise DatasetError(f"{self.folder} must hold at least one image with labels, got {len(every)} without")
        report_skipped(unlabelled, len(every), str(self.folder))
        return found, unlabelled


def _problem_of(found: tuple[layouts.Dataset, layouts.Sample]) -> str | None:
    dataset, item = found
    try:
        dataset.read(item)
    except EomtExtError as error:
        text = str(error)
        name = printable(item.image_path)
        return text if name in text else f"{name}: {text}"
    return None


class LabelledFolder(Dataset[Sample]):
    """Crops of :class:`LabelledImages`: an :class:`~eomt_ext_training.data.sample.AnomalyDataset`.

    Args:
        folder: see :class:`LabelledImages`.
        crop_hw: the model's crop.
        views_per_image: crops of each image; without augmentation they are spaced evenly along its longer side.
        augmentation: how crops vary; none for validation.
        label_values: what the values in the labels mean: 0 known, 1 anomaly, 255 void, such as ``{0: 0, 255: 1}``;
            see :class:`LabelledImages`.
        seed: of the crops.

    Raises:
        ConfigError: if ``label_values`` maps to anything else.
        DatasetError: if nothing readable is left, or the labels show no anomalous or no normal pixel and
            ``label_values`` do not say that it is meant so.
    """

    def __init__(
        self,
        folder: str,
        crop_hw: tuple[int, int],
        views_per_image: int = 1,
        augmentation: Augmentation | None = None,
        label_values: dict[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.images = LabelledImages(folder, None if label_values is None else LabelValues(label_values))
        self.images.check_kinds()
        self.views = Views(crop_hw, views_per_image, augmentation, seed)

    def __len__(self) -> int:
        return len(self.images) * self.views.per_image

    def __getitem__(self, index: int) -> Sample:
        row, number, rng = self.views.locate(index, len(self.images))
        image, labels = self.images.read(row)
        view = self.views.choose(labels.shape, number, rng)
        crop = self.views.finish(cut_image(image, view), rng)
        return Sample(
            torch.from_numpy(crop).permute(2, 0, 1).contiguous(),
            torch.from_numpy(cut_labels(labels, view)),
            f"{self.images.key(row)}#{number}",
        )

    def fingerprint(self) -> str:
        """See :class:`~eomt_ext_training.data.sample.AnomalyDataset`."""
        generators = [sys.modules[__name__], images, layouts, views]
        return fingerprint_of((self.views, self.images.label_values), self.images.files, generators)
