"""A data set has another fingerprint once code that draws it has changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from eomt_ext_training.data import (
    augmentation,
    coco,
    cutouts,
    labelled_folder,
    pasted_anomalies,
    pasting,
    road_scenes,
    scenes,
    views,
)
from eomt_ext_training.data.stored import image_files

import eomt_ext_core.scenes
from eomt_ext_core import datasets, images, windows

CROP_HW = (64, 64)


def procedural(folder: Path) -> Any:
    return scenes.ProceduralScenes(CROP_HW, 1)


def augmented(folder: Path) -> Any:
    return augmentation.Augmented(procedural(folder))


def drawn(folder: Path) -> Any:
    return cutouts.ProceduralCutouts()


def cut_out(folder: Path) -> Any:
    (folder / "cutouts").mkdir()
    cv2.imwrite(str(folder / "cutouts" / "a.png"), np.full((9, 9, 4), 255, np.uint8))
    return cutouts.CutoutFolder(str(folder / "cutouts"))


def coco_instances(folder: Path) -> Any:
    cv2.imwrite(str(folder / "a.png"), np.zeros((80, 100, 3), np.uint8))
    square = [20.0, 20.0, 60.0, 20.0, 60.0, 50.0, 20.0, 50.0]
    instance = {"id": 1, "image_id": 1, "category_id": 8, "bbox": [20, 20, 40, 30], "area": 1200, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 80, "width": 100}],
        "categories": [{"id": 8, "name": "sheep"}],
        "annotations": [instance | {"segmentation": [square]}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return coco.CocoCutouts(str(folder / "instances.json"), str(folder), min_area_px=100)


def labelled(folder: Path) -> Any:
    for name, array in (("images", np.zeros((20, 30, 3), np.uint8)), ("labels", np.eye(20, 30, dtype=np.uint8))):
        (folder / name).mkdir()
        cv2.imwrite(str(folder / name / "a.png"), array)
    return labelled_folder.LabelledFolder(str(folder), CROP_HW)


def road(folder: Path) -> Any:
    labelled(folder)
    return road_scenes.CamVid(str(folder))


def pasted(folder: Path) -> Any:
    return pasted_anomalies.PastedAnomalies(road(folder), drawn(folder), CROP_HW)


@pytest.mark.parametrize(
    ("make", "modules"),
    [
        (procedural, [scenes, windows, eomt_ext_core.scenes]),
        (augmented, [augmentation, scenes]),
        (drawn, [cutouts, eomt_ext_core.scenes]),
        (cut_out, [cutouts, images]),
        (coco_instances, [coco, cutouts, images]),
        (labelled, [labelled_folder, views, datasets, images]),
        (road, [road_scenes, image_files, images]),
        (pasted, [pasted_anomalies, pasting, views, cutouts, road_scenes]),
    ],
)
def test_code_that_draws_the_data_counts(
    make: Callable[[Path], Any], modules: list[ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path)
    before = data.fingerprint()
    assert data.fingerprint() == before
    for number, module in enumerate(modules):
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(edited(module, tmp_path / f"source {number}")))
            assert data.fingerprint() != before, module.__name__


def edited(module: ModuleType, folder: Path) -> Path:
    """A copy of a module or package with a line more."""
    source = Path(str(module.__file__))
    if source.name == "__init__.py":
        shutil.copytree(source.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        folder.mkdir()
        shutil.copy(source, folder)
    copy = folder / source.name
    copy.write_text(copy.read_text() + "\n")
    return copy
