"""Normal road scenes with unusual things pasted in: outlier exposure (Hendrycks et al., ICLR 2019)."""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_training.data import pasting as pasting_module
from eomt_ext_training.data import views
from eomt_ext_training.data.cutouts import CutoutSource
from eomt_ext_training.data.pasting import Pasting, find_footing, ground_mask, horizon_row, paste, scene_colours
from eomt_ext_training.data.road_scenes import RoadScenes
from eomt_ext_training.data.sample import VOID, Sample
from eomt_ext_training.data.views import Augmentation, View, Views, cut_image, cut_labels


class PastedAnomalies(Dataset[Sample]):
    """Crops of road scenes with things pasted in: an :class:`~eomt_ext_training.data.sample.AnomalyDataset`.

    What is known in the scene is labelled 0, what is void there 255, pasted things 1 within a thin ring of 255. View
    ``k`` of an image is the same each time it is asked for; give many ``views_per_image`` to see many pastings.

    Args:
        scenes: source of images.
        source: source of things.
        crop_hw: the model's crop.
        pasting: how things are pasted; none for the defaults.
        views_per_image: crops of each image.
        augmentation: how crops vary; none for validation.
        seed: of everything random.
    """

    def __init__(
        self,
        scenes: RoadScenes,
        source: CutoutSource,
        crop_hw: tuple[int, int],
        pasting: Pasting | None = None,
        views_per_image: int = 1,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.scenes, self.source, self.pasting = scenes, source, pasting or Pasting()
        self.views = Views(crop_hw, views_per_image, augmentation, seed)

    def __len__(self) -> int:
        return len(self.scenes) * self.views.per_image

    def __getitem__(self, index: int) -> Sample:
        row, number, rng = self.views.locate(index, len(self.scenes))
        image, semantic = self.scenes.read(row)
        view = self.views.choose(semantic.shape, number, rng)
        crop, labels = self._litter(image, semantic, view, rng)
        crop = self.views.finish(crop, rng)
        return Sample(
            torch.from_numpy(crop).permute(2, 0, 1).contiguous(),
            torch.from_numpy(labels),
            f"{self.scenes.pairs[row].key}#{number}",
        )

    def fingerprint(self) -> str:
        """See :class:`~eomt_ext_training.data.sample.AnomalyDataset`."""
        parts = (self.scenes.fingerprint(), self.source.fingerprint(), self.pasting, self.views)
        return fingerprint_of(parts, generators=[sys.modules[__name__], pasting_module, views])

    def _litter(
        self, image: NDArray[np.uint8], semantic: NDArray[np.uint8], view: View, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut the view, then paste: so things have the sharpness of the crop, and most of them lie in it."""
        whole_ground = ground_mask(semantic, self.scenes.ground_classes)
        horizon = view.row_of(horizon_row(whole_ground), semantic.shape[0])
        crop, classes = cut_image(image, view), cut_labels(semantic, view)
        labels = np.where(classes == VOID, VOID, 0).astype(np.uint8)
        if rng.random() >= self.pasting.probability:
            return crop, labels
        ground = ground_mask(classes, self.scenes.ground_classes)
        colours = scene_colours(crop, classes != VOID, horizon)
        placed = []
        for _ in range(int(rng.integers(1, self.pasting.max_objects + 1))):
            sprite = self.source.draw(rng, self.views.crop_hw[0] / 2)
            footing = find_footing(ground, horizon, sprite, self.pasting, rng)
            if footing is not None:
                placed.append((footing, sprite))
        for footing, sprite in sorted(placed, key=lambda pair: pair[0].row):
            paste(crop, labels, sprite, footing, colours, self.pasting, rng)
        return crop, labels
