from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from eomt_ext_core import EoMTExt, HeadConfig
from eomt_ext_core.model.checkpoint import save_model


@pytest.fixture(scope="session")
def checkpoint(tiny_model: Callable[..., EoMTExt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), path)
    return path


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a random image, or labels of one value but for a square of another, making folders on the way."""

    def write(path: Path, size_hw: tuple[int, int] = (48, 64), labels: tuple[int, int] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if labels is None:
            array = np.random.default_rng(sum(map(ord, path.stem))).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        else:
            array = np.full(size_hw, labels[0], np.uint8)
            array[10:30, 20:45] = labels[1]
        assert cv2.imwrite(str(path), array)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Five labelled images in the plain layout, the last without anomaly."""
    root = tmp_path / "plain"
    for index in range(5):
        write_image(root / "images" / f"{index}.png", (40 + 8 * index, 64))
        write_image(root / "labels_masks" / f"{index}.png", (40 + 8 * index, 64), labels=(0, 0 if index == 4 else 1))
    return root
