"""Procedural scenes, rendered once and cached on disk for all epochs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import scenes
from eomt_ext_core.files import atomic_write
from eomt_ext_core.progress import tracked
from eomt_ext_core.scenes import SceneConfig, render_scene


@dataclass(frozen=True)
class SceneSet:
    """Scenes as arrays, one row each.

    Attributes:
        images_rgb: (N, H, W, 3) uint8.
        labels: (N, H, W) uint8: 0 known, 1 anomaly, 255 void.
        semantic: (N, H, W) uint8 class ids, 255 if the label is not 0.
    """

    images_rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    semantic: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images_rgb)


def load_scenes(seeds: Sequence[int], config: SceneConfig, folder: str | Path) -> SceneSet:
    """Render scenes, or map them from disk if the same scenes have been rendered before.

    Args:
        seeds: one scene each.
        config: how they look.
        folder: of the arrays; a set is named after seeds, configuration and the source code of the generator.
    """
    generator = b"".join(path.read_bytes() for path in sorted(Path(str(scenes.__file__)).parent.rglob("*.py")))
    key = hashlib.sha256(repr((list(seeds), config)).encode() + generator).hexdigest()[:16]
    paths = {part: Path(folder) / f"scenes-{key}.{part}.npy" for part in ("images_rgb", "labels", "semantic")}
    if not all(path.is_file() for path in paths.values()):
        _render(seeds, config, paths)
    return SceneSet(**{part: np.load(path, mmap_mode="r") for part, path in paths.items()})


def _render(seeds: Sequence[int], config: SceneConfig, paths: dict[str, Path]) -> None:
    height, width = config.size_hw
    shapes = {"images_rgb": (len(seeds), height, width, 3)}
    with (
        atomic_write(paths["images_rgb"]) as images_path,
        atomic_write(paths["labels"]) as labels_path,
        atomic_write(paths["semantic"]) as semantic_path,
        ProcessPoolExecutor(os.cpu_count()) as pool,
    ):
        images, labels, semantic = (
            np.lib.format.open_memmap(
                path, mode="w+", dtype=np.uint8, shape=shapes.get(part, (len(seeds), height, width))
            )
            for part, path in (("images_rgb", images_path), ("labels", labels_path), ("semantic", semantic_path))
        )
        rendered = pool.map(partial(render_scene, config=config), seeds, chunksize=16)
        for row, scene in enumerate(tracked(rendered, "drawing scenes", len(seeds))):
            images[row], labels[row], semantic[row] = scene.image_rgb, scene.labels, scene.semantic
        for array in (images, labels, semantic):
            array.flush()
