from collections.abc import Callable
from pathlib import Path

import pytest

from eomt_ext_core import EoMTExt, HeadConfig
from eomt_ext_core.model.checkpoint import save_model


@pytest.fixture(scope="session")
def checkpoint(tiny_model: Callable[..., EoMTExt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Five labelled images in the plain layout, the last without anomaly."""
    root = tmp_path / "plain"
    for index in range(5):
        write_image(root / "images" / f"{index}.png", (40 + 8 * index, 64))
        write_image(root / "labels_masks" / f"{index}.png", (40 + 8 * index, 64), labels=(0, 0 if index == 4 else 1))
    return root
