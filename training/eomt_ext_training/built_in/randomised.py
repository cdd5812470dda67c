"""Drawn scenes with randomised looks; every item is the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from eomt_ext_core.errors import DatasetError
from eomt_ext_training.built_in.looks.background import Background, with_clutter, with_hedges
from eomt_ext_training.built_in.looks.bonnet import Bonnet, with_bonnet
from eomt_ext_training.built_in.looks.light import Lighting, relit
from eomt_ext_training.built_in.looks.sensor import Sensor, photographed
from eomt_ext_training.built_in.looks.style import Style, restyled
from eomt_ext_training.built_in.looks.surfaces import Surfaces, resurfaced
from eomt_ext_training.built_in.looks.textures import TextureBank, Textures
from eomt_ext_training.built_in.looks.things import Things, with_things
from eomt_ext_training.built_in.looks.view import Zoom, zoomed
from eomt_ext_training.data.sample import ANOMALOUS, OUTLIER, SemanticSample
from eomt_ext_training.data.stored.rendered import SceneSet


@dataclass(frozen=True)
class Randomisation:
    """The random changes of a window, in order."""

    zoom: Zoom = field(default_factory=Zoom)
    background: Background = field(default_factory=Background)
    surfaces: Surfaces = field(default_factory=Surfaces)
    things: Things = field(default_factory=Things)
    lighting: Lighting = field(default_factory=Lighting)
    style: Style = field(default_factory=Style)
    bonnet: Bonnet = field(default_factory=Bonnet)
    sensor: Sensor = field(default_factory=Sensor)
    textures: Textures = field(default_factory=Textures)


class RandomisedScenes(Dataset[SemanticSample]):
    """Windows of drawn scenes. Item ``index`` follows from seed and index alone; there are as many as are asked for.

    Args:
        sets: rendered scenes, of any size.
        crop_hw: size of the windows.
        count: number of items.
        randomisation: what is random.
        seed: of everything random.

    Raises:
        DatasetError: if there is no scene or no item.
    """

    def __init__(
        self,
        sets: Sequence[SceneSet],
        crop_hw: tuple[int, int],
        count: int,
        randomisation: Randomisation = Randomisation(),
        seed: int = 0,
    ) -> None:
        self._rows = [(number, row) for number, scenes in enumerate(sets) for row in range(len(scenes))]
        if not self._rows or count < 1:
            raise DatasetError(f"there must be scenes and items, got {len(self._rows)} scenes and count {count}")
        self._sets, self._crop_hw, self._count = sets, crop_hw, count
        self._random, self._seed = randomisation, seed
        self._bank = TextureBank(randomisation.textures)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> SemanticSample:
        if not 0 <= index < self._count:
            raise IndexError(f"index must lie in [0, {self._count}), got {index}")
        rng = np.random.default_rng([self._seed, index])
        image, semantic = self._window(rng)

        def other() -> NDArray[np.uint8]:
            return self._window(rng)[0]

        random = self._random
        image, semantic = with_hedges(image, semantic, self._bank, random.background, rng)
        image = with_clutter(image, semantic, self._bank, random.background, rng)
        image = resurfaced(image, semantic, self._bank, random.surfaces, rng)
        image, semantic = with_things(image, semantic, other, self._bank, random.things, rng)
        image = relit(image, semantic, random.lighting, rng)
        image, semantic = with_bonnet(image, semantic, random.bonnet, rng)
        image = restyled(image, other, random.style, rng)
        image = photographed(image, random.sensor, rng)
        return SemanticSample(
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(semantic)
        )

    def _window(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        number, row = self._rows[int(rng.integers(len(self._rows)))]
        scenes = self._sets[number]
        semantic = np.where(scenes.labels[row] == ANOMALOUS, np.uint8(OUTLIER), scenes.semantic[row])
        return zoomed(np.asarray(scenes.images_rgb[row]), semantic, self._crop_hw, self._random.zoom, rng)
