"""Procedural scenes as data sets: with obstacles for the head, with semantic classes for the network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from eomt_ext_core import scenes, windows
from eomt_ext_core.config import WindowConfig
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SceneConfig, render_scene
from eomt_ext_training.data.sample import ANOMALOUS, OUTLIER, Sample, SemanticSample
from eomt_ext_training.data.stored.rendered import SceneSet, load_scenes


class ProceduralScenes(Dataset[Sample]):
    """Labelled scenes of consecutive seeds.

    Args:
        crop_hw: size of the samples, that of the model's crop.
        count: number of scenes.
        first_seed: seed of the first.
        image_hw: size that scenes are drawn at; they are resized and cut into windows as the engine does, and each
            gives one of its windows. Without it, they are drawn at the crop's size.
        obstacle_probability: fraction of 60 m stretches of road with obstacles.
        obstacle_families: which obstacles there are.
        rendered: folder for the cache of drawn scenes; without it, each scene is drawn on every access.

    Raises:
        DatasetError: if there is no scene.
    """

    def __init__(
        self,
        crop_hw: tuple[int, int],
        count: int,
        first_seed: int = 0,
        image_hw: tuple[int, int] | None = None,
        obstacle_probability: float = 0.9,
        obstacle_families: tuple[str, ...] = OBSTACLE_FAMILIES,
        rendered: Path | None = None,
    ) -> None:
        if count < 1:
            raise DatasetError(f"count must be at least 1, got {count}")
        self._seeds = range(first_seed, first_seed + count)
        self._crop_hw = (crop_hw[0], crop_hw[1])
        image_hw = self._crop_hw if image_hw is None else (image_hw[0], image_hw[1])
        self._config = SceneConfig(
            size_hw=image_hw,
            obstacle_probability=obstacle_probability,
            obstacle_families=tuple(obstacle_families),
        )
        self._rendered = None if rendered is None else load_scenes(self._seeds, self._config, rendered)

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: int) -> Sample:
        seed = self._seeds[index]
        if self._rendered is None:
            scene = render_scene(seed, self._config)
            image, labels = scene.image_rgb, scene.labels
        else:
            image, labels = self._rendered.images_rgb[index], self._rendered.labels[index]
        channels_first = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        window, label_window = _one_window(channels_first, torch.from_numpy(np.array(labels)), self._crop_hw, seed)
        return Sample(window, label_window, f"scene {seed}")

    def fingerprint(self) -> str:
        """Digest seeds, settings and the code."""
        generators = [sys.modules[__name__], scenes, windows]
        return fingerprint_of((self._seeds, self._config, self._crop_hw), generators=generators)


class SemanticScenes(Dataset[SemanticSample]):
    """The semantic classes of drawn scenes; obstacles are outliers."""

    def __init__(self, scenes: SceneSet) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> SemanticSample:
        image = torch.from_numpy(np.array(self._scenes.images_rgb[index])).permute(2, 0, 1)
        semantic = np.where(self._scenes.labels[index] == ANOMALOUS, np.uint8(OUTLIER), self._scenes.semantic[index])
        return SemanticSample(image, torch.from_numpy(semantic))


def _one_window(
    image: torch.Tensor, labels: torch.Tensor, crop_hw: tuple[int, int], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One of the windows that the engine would cut from an image, chosen by the seed."""
    height, width = labels.shape
    if (height, width) == crop_hw:
        return image, labels
    plan = windows.plan((height, width), crop_hw, WindowConfig())
    y, x = plan.origins_yx[seed % plan.num_windows]
    resized = windows.resize(image, plan)
    resized_labels = torch.nn.functional.interpolate(labels[None, None], plan.resized_hw, mode="nearest-exact")[0, 0]
    rows, columns = slice(y, y + crop_hw[0]), slice(x, x + crop_hw[1])
    return resized[:, rows, columns].contiguous(), resized_labels[rows, columns].contiguous()
