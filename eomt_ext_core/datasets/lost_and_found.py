"""Lost & Found, and its subset with new labels by Fishyscapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL, VOID, LabelValues
from eomt_ext_core.datasets.listing import folders_beside, images, ordered
from eomt_ext_core.datasets.samples import Dataset, Sample
from eomt_ext_core.datasets.tracks import OBSTACLE_TRACK
from eomt_ext_core.errors import DatasetError

LOST_AND_FOUND_LABELS = LabelValues(
    {0: VOID, 1: NORMAL} | {value: ANOMALOUS if value <= 200 else VOID for value in range(2, 256)}
)
FRAME = re.compile(r"(?:(?P<number>\d+)_)?(?P<id>\d\d_[A-Z]\w*?_\d{6}_\d{6})")
"""The id of a frame of Lost & Found in a file name, with Fishyscapes' number before it."""


def lost_and_found(root: Path, split: str | None) -> list[Dataset]:
    """Recognise Lost & Found as published: ``leftImg8bit/{split}/{scene}/`` with ``gtCoarse/{split}/{scene}/``."""
    if not (root / "leftImg8bit").is_dir() or not (root / "gtCoarse").is_dir():
        return []
    datasets = []
    for folder in sorted((root / "leftImg8bit").iterdir()):
        if not folder.is_dir() or split not in (None, folder.name):
            continue
        samples = []
        for image in images(folder.glob("*/*"), "_leftImg8bit"):
            frame_id = image.stem.removesuffix("_leftImg8bit")
            label = root / "gtCoarse" / folder.name / image.parent.name / f"{frame_id}_gtCoarse_labelIds.png"
            samples.append(Sample(frame_id, image, label))
        name = f"LostAndFound-{folder.name}"
        maps = (LOST_AND_FOUND_LABELS,)
        datasets.append(Dataset(name, "Lost & Found", root, ordered(samples), maps, OBSTACLE_TRACK, name))
    return datasets


def fishyscapes_laf(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``labels/{split}/{id}_fishy-labels.png``, as in the benchmark's code, with Lost & Found's images."""
    datasets = []
    for folder in sorted((root / "labels").glob("*/")):
        labels = {
            path.name.removesuffix("_fishy-labels.png"): path for path in images(folder.glob("*_fishy-labels.png"))
        }
        if labels and split in (None, folder.name):
            datasets.append(_with_images(f"FS LaF-{folder.name}", root, labels))
    return datasets


def fishyscapes_laf_download(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``{number}_{id}_labels.png``, as published on fishyscapes.com, with Lost & Found's images."""
    labels = {}
    for path in images(root.glob("*_labels.png")):
        frame = FRAME.fullmatch(path.name.removesuffix("_labels.png"))
        if frame is not None and frame["number"]:
            labels[frame["id"]] = path
    return [_with_images("FS LaF", root, labels)] if labels and split in (None, "val") else []


def _with_images(name: str, root: Path, labels: dict[str, Path]) -> Dataset:
    homes = [root, root.resolve().parent / "dataset_LostAndFound", root.resolve().parent, *folders_beside(root)]
    samples = []
    for frame_id, label in labels.items():
        image = _image_of(frame_id, homes)
        if image is None:
            raise DatasetError(
                f"{label} needs the image {frame_id}_leftImg8bit.png of Lost & Found: put that data set "
                f"(leftImg8bit/) into {root} or into a folder beside it"
            )
        samples.append(Sample(frame_id, image, label))
    return Dataset(name, "FS LaF", root, ordered(samples), submission_name="LostAndFound-train")


def _image_of(frame_id: str, homes: Iterable[Path]) -> Path | None:
    scene, name = frame_id.rsplit("_", 2)[0], f"{frame_id}_leftImg8bit"
    for home in homes:
        in_scenes = (home.glob(f"{folder}/*/{scene}/{name}.*") for folder in ("leftImg8bit", "leftImg8bit/leftImg8bit"))
        for image in images([home / f"{name}.png", *chain.from_iterable(in_scenes)]):
            if image.is_file():
                return image
    return None
