"""Road images with semantic classes: Cityscapes, CamVid and similar folders."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from eomt_ext_core import images
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_core.images import images_among, list_images, read_label_values, read_rgb
from eomt_ext_training.data.sample import VOID, SemanticSample
from eomt_ext_training.data.stored import image_files
from eomt_ext_training.data.stored.image_files import LabelledFile, readable_pairs
from eomt_ext_training.data.views import Augmentation, Views, cut_image, cut_labels

CITYSCAPES_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
# Of the label ids 0 to 33, those that are evaluated, in the order of their train ids.
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip


class RoadScenes:
    """Images of normal traffic with semantic labels.

    Args:
        pairs: image and label files.
        class_of: class ids of the values in the label maps, 255 void.
        class_names: of the semantic classes, in the order of their ids.
        ground_classes: ids of what an object may stand on.
        what: names the set in messages.

    Attributes:
        skipped: a line for each broken pair.

    Raises:
        DatasetError: if nothing readable is left, or a label map holds a value that ``class_of`` lacks.
    """

    def __init__(
        self,
        pairs: Sequence[LabelledFile],
        class_of: Mapping[int, int],
        class_names: Sequence[str],
        ground_classes: Sequence[int],
        what: str,
    ) -> None:
        self.class_names, self.ground_classes = tuple(class_names), tuple(ground_classes)
        if not set(self.ground_classes) <= set(range(len(self.class_names))):
            raise ConfigError(f"ground_classes must be ids below {len(self.class_names)}, got {self.ground_classes}")
        self._class_of = dict(class_of)
        self._table = np.full(256, VOID, np.uint8)
        self._table[list(self._class_of)] = list(self._class_of.values())
        readable = readable_pairs(pairs, what, self._check)
        self.pairs, self.skipped = readable.kept, readable.skipped

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (H, W, 3) RGB and class ids (H, W), 255 void."""
        pair = self.pairs[index]
        return read_rgb(pair.image), self._table[read_label_values(pair.labels)]

    def fingerprint(self) -> str:
        """Return a text that differs if files, classes, ground or the code differ."""
        files = [path for pair in self.pairs for path in pair[:2]]
        generators = [sys.modules[__name__], image_files, images]
        return fingerprint_of((self._class_of, self.ground_classes), files, generators)

    def _check(self, path: Path, labels: NDArray[np.uint8]) -> None:
        foreign = sorted(set(np.unique(labels).tolist()) - set(self._class_of))
        if foreign:
            raise DatasetError(
                f"{path}: class ids must be below {len(self.class_names)}, or void, got {foreign[:8]}: "
                "name the void ids, or give all class names"
            )


class Cityscapes(RoadScenes):
    """Cityscapes (Cordts et al., CVPR 2016): ``leftImg8bit`` and ``gtFine``, the 19 evaluated classes.

    Args:
        folder: with both folders in it.
        split: ``train`` or ``val``.
        ground_classes: train ids of what an object may stand on.
    """

    def __init__(self, folder: str, split: str = "train", ground_classes: Sequence[int] = (0, 1)) -> None:
        root = Path(folder) / "leftImg8bit" / split
        if not root.is_dir():
            raise DatasetError(f"{root} must exist, Cityscapes has its {split} images there")
        pairs = []
        for image in images_among(root.glob("*/*_leftImg8bit.png")):
            key = image.name.removesuffix("_leftImg8bit.png")
            labels = Path(folder) / "gtFine" / split / image.parent.name / f"{key}_gtFine_labelIds.png"
            pairs.append(LabelledFile(image, labels, key))
        class_of = dict.fromkeys(range(34), VOID) | {VOID: VOID}  # the licence plate, −1, is stored as 255
        class_of |= {label_id: train_id for train_id, label_id in enumerate(CITYSCAPES_LABEL_IDS)}
        super().__init__(pairs, class_of, CITYSCAPES_CLASSES, ground_classes, str(root))


class CamVid(RoadScenes):
    """CamVid (Brostow et al. 2009) with 11 classes, or any folder like it: ``images/`` and ``labels/*.png``.

    Label maps hold class ids; each is named as its image.

    Args:
        folder: with both folders in it.
        class_names: of the semantic classes.
        void_ids: values of void pixels in the label maps.
        ground_classes: ids of what an object may stand on.
    """

    def __init__(
        self,
        folder: str,
        class_names: Sequence[str] = CAMVID_CLASSES,
        void_ids: Sequence[int] = (11, VOID),
        ground_classes: Sequence[int] = (3, 4),
    ) -> None:
        root = Path(folder)
        pairs = [
            LabelledFile(image, root / "labels" / f"{image.stem}.png", image.stem)
            for image in list_images(root / "images")
        ]
        class_of = {index: index for index in range(len(class_names))} | dict.fromkeys(void_ids, VOID)
        super().__init__(pairs, class_of, class_names, ground_classes, folder)


class SemanticViews(Dataset[SemanticSample]):
    """Crops of road scenes with their classes: a :class:`~eomt_ext_training.data.sample.SemanticDataset`.

    Args:
        scenes: source of images.
        crop_hw: the model's crop.
        views_per_image: crops of each image; without augmentation they are spaced evenly along its longer side.
        augmentation: how crops vary; none for validation.
        seed: of the crops.
    """

    def __init__(
        self,
        scenes: RoadScenes,
        crop_hw: tuple[int, int],
        views_per_image: int = 1,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.scenes, self.views = scenes, Views(crop_hw, views_per_image, augmentation, seed)

    def __len__(self) -> int:
        return len(self.scenes) * self.views.per_image

    def __getitem__(self, index: int) -> SemanticSample:
        row, number, rng = self.views.locate(index, len(self.scenes))
        image, semantic = self.scenes.read(row)
        view = self.views.choose(semantic.shape, number, rng)
        crop = self.views.finish(cut_image(image, view), rng)
        classes = torch.from_numpy(cut_labels(semantic, view))
        return SemanticSample(torch.from_numpy(crop).permute(2, 0, 1).contiguous(), classes)
