"""Held-out labelled frames, from a folder or drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import LabelValues
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.scenes import OBSTACLE_FAMILIES, SceneConfig, render_scene
from eomt_ext_training.data.labelled_folder import LabelledImages

SCENES_SCHEME = "scenes:"


@dataclass(frozen=True)
class HeldOutFrames:
    """Frames from a source, given as text.

    ``scenes:SEED:COUNT`` draws procedural scenes from that seed on, 960×540, with obstacles of all families;
    ``scenes:SEED:COUNT:FAMILY,FAMILY`` with obstacles of some. Anything else is a folder, see
    :class:`~eomt_ext_training.data.labelled_folder.LabelledImages`.
    """

    source: str
    scene_config: SceneConfig | None
    seeds: range
    images: LabelledImages | None

    @classmethod
    def of(cls, source: str, label_values: LabelValues | None = None) -> HeldOutFrames:
        """Parse the text, and list a folder.

        Args:
            source: the text.
            label_values: the meaning of the values in the labels of a folder, if it differs from that of its layout.

        Raises:
            ConfigError: if the numbers or families of scenes are invalid.
            DatasetError: if a folder has no images with labels.
        """
        if not source.startswith(SCENES_SCHEME):
            return cls(str(Path(source)), None, range(0), LabelledImages(source, label_values))
        parts = source.removeprefix(SCENES_SCHEME).split(":")
        if not 2 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts[:2]) or int(parts[1]) < 1:
            raise ConfigError(f"scenes must look like scenes:SEED:COUNT or scenes:SEED:COUNT:FAMILY,…, got {source!r}")
        seed, count = int(parts[0]), int(parts[1])
        families = tuple(parts[2].split(",")) if len(parts) == 3 else OBSTACLE_FAMILIES
        config = SceneConfig(size_hw=(540, 960), obstacle_probability=0.9, obstacle_families=families)
        return cls(source, config, range(seed, seed + count), None)

    def check_kinds(self) -> None:
        """Read the labels of a folder.

        Raises:
            DatasetError: if they have no anomalous or no normal pixels.
        """
        if self.images is not None:
            self.images.check_kinds()

    def __len__(self) -> int:
        return len(self.seeds) if self.images is None else len(self.images)

    def digest(self) -> str:
        """Give the SHA-256 of the list of frames."""
        names = map(str, self.seeds) if self.images is None else map(self.images.key, range(len(self)))
        return hashlib.sha256("\n".join([self.source, *names]).encode("utf-8", "surrogateescape")).hexdigest()

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield images (H, W, 3) RGB and labels (H, W): 0 normal, 1 anomaly, 255 void."""
        return map(self.read, range(len(self)))

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One of them."""
        if self.images is not None:
            return self.images.read(index)
        assert self.scene_config is not None, "frames are of a folder, or drawn"
        scene = render_scene(self.seeds[index], self.scene_config)
        return scene.image_rgb, scene.labels


@dataclass(frozen=True)
class FramesAsDrive:
    """Labelled frames in a random order, the same every time, as a drive: they have no order of their own."""

    frames: HeldOutFrames

    @property
    def name(self) -> str:
        """Where they come from."""
        return self.frames.source

    @property
    def num_images(self) -> int:
        """How many there are."""
        return len(self.frames)

    def images(self, start: int, stop: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """See :class:`~eomt_ext_core.normality.drives.Drive`."""
        order = np.random.default_rng(0).permutation(len(self.frames)).tolist()
        return (self.frames.read(index)[0] for index in order[start:stop:every])
