"""Fishyscapes Static, and the bundle of PEBAL and SynBoost, which also contains Fishyscapes Lost & Found."""

from __future__ import annotations

import re
from pathlib import Path

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL, PLAIN_LABELS, VOID, LabelValues
from eomt_ext_core.datasets.listing import agreed, folders_beside, images, named_in, ordered
from eomt_ext_core.datasets.lost_and_found import FRAME
from eomt_ext_core.datasets.samples import Dataset, Sample
from eomt_ext_core.errors import DatasetError

ROAD_ANOMALY_LABELS = LabelValues({0: NORMAL, 2: ANOMALOUS, 255: VOID})

# Static consists of Cityscapes' validation images, which are named after these cities.
_STATIC_FRAME = re.compile(r"\d+_(frankfurt|lindau|munster)_\d{6}_\d{6}")
_BUNDLE = {
    "lostandfound": "FS LaF",
    "lostfound": "FS LaF",
    "static": "FS Static",
    "roadanomaly": "RoadAnomaly",
    "roadanomaly21": "RoadAnomaly21",
}
_OF_FISHYSCAPES = re.compile(r"fishy|(?<![a-z])fs(?![a-z])")


def fishyscapes_static(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``fs_val_v*/*_labels.png``, with the images in it or in ``fs_static_images*/*rgb.*`` beside it."""
    if split not in (None, "val"):
        return []
    inside = [path.name for path in images(root.glob("*_labels.png"))]
    if any(map(_STATIC_FRAME.match, inside)) or (inside and root.resolve().name.startswith("fs_val")):
        return [_static(root, folders_beside(root))]
    return [_static(labels, list(root.glob("fs_static_images*/"))) for labels in sorted(root.glob("fs_val_v*/"))]


def original_and_labels(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``original/`` with ``labels/``: Fishyscapes ``LostAndFound`` and ``Static``, or ``road_anomaly``."""
    if split not in (None, "val") or not (root / "original").is_dir() or not (root / "labels").is_dir():
        return []
    labels = {path.stem: path for path in images((root / "labels").glob("*.png"))}
    if not labels:
        return []
    home = root.resolve()
    by_folder, by_files = named_in(home.name, _BUNDLE), _name_by_files(labels)
    name = agreed(home, {"the folder's name": by_folder, "the names of its files": by_files})
    if name is None:
        raise DatasetError(
            f"{home} must be one data set, its original/ and labels/ fit FS LaF, FS Static and RoadAnomaly: name the "
            "folder LostAndFound, Static or road_anomaly, or use images/ and labels_masks/ for your own data"
        )
    if name == "FS LaF" and not _is_of_fishyscapes(home, labels):
        raise DatasetError(
            f"{home} must be one data set, it fits FS LaF and Lost & Found: if it is FS LaF, put it into a folder "
            "called fishyscapes; Lost & Found needs leftImg8bit/ and gtCoarse/"
        )
    maps = (ROAD_ANOMALY_LABELS, PLAIN_LABELS) if name.startswith("RoadAnomaly") else (PLAIN_LABELS,)
    samples = _paired(root, labels, {path.stem: path for path in images((root / "original").glob("*"))})
    return [Dataset(name, f"{name} (original + labels)", root, samples, maps)]


def _static(folder: Path, image_folders: list[Path]) -> Dataset:
    labels = {_bare(path.stem, "labels"): path for path in images(folder.glob("*_labels.png"))}
    version = folder.resolve().name.removeprefix("fs_val")
    names = ("fs_static_images", f"fs_static_images{version}")
    found = [images(home.glob("*rgb.*")) for home in (folder, *image_folders) if home == folder or home.name in names]
    chosen = next((paths for paths in found if paths), [])
    if not chosen and any(folder.glob("*rgb.npz")):
        raise DatasetError(
            f"{folder} must contain images, got overlays (*rgb.npz): add each to its image of Cityscapes, clipped to "
            f"0…255, as Fishyscapes' own code does, and write it as *_rgb.png into fs_static_images{version} beside it"
        )
    samples = _paired(folder, labels, {_bare(path.stem, "rgb"): path for path in chosen})
    return Dataset("FS Static", f"FS Static ({folder.resolve().name})", folder, samples)


def _paired(root: Path, labels: dict[str, Path], found: dict[str, Path]) -> tuple[Sample, ...]:
    missing = sorted(labels.keys() ^ found.keys())
    if missing:
        raise DatasetError(f"{root}: images and labels must pair up, {missing[0]!r} has only one of them")
    return ordered(Sample(key, found[key], label) for key, label in labels.items())


def _name_by_files(stems: dict[str, Path]) -> str | None:
    if any(FRAME.search(stem) for stem in stems):
        return "FS LaF"
    return "FS Static" if any(_STATIC_FRAME.match(stem) for stem in stems) else None


def _is_of_fishyscapes(home: Path, stems: dict[str, Path]) -> bool:
    """Whether a folder is named fishyscapes, or each id has a number before it; Lost & Found itself has neither."""
    numbered = all(frame is not None and frame["number"] for frame in map(FRAME.search, stems))
    return numbered or any(_OF_FISHYSCAPES.search(name.lower()) for name in (home.name, home.parent.name))


def _bare(stem: str, ending: str) -> str:
    return stem.removesuffix(ending).rstrip("_-")
