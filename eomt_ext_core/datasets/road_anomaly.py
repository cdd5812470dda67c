"""The sets of SegmentMeIfYouCan, the earlier RoadAnomaly, and the bundle that many evaluations use."""

from __future__ import annotations

import re
from pathlib import Path

from eomt_ext_core.datasets.fishyscapes import ROAD_ANOMALY_LABELS
from eomt_ext_core.datasets.labels import PLAIN_LABELS
from eomt_ext_core.datasets.listing import agreed, images, named_in, ordered
from eomt_ext_core.datasets.lost_and_found import FRAME
from eomt_ext_core.datasets.samples import Dataset, Sample
from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, OBSTACLE_TRACK

_SUFFIX = "_labels_semantic.png"
_TRACKS = {
    "RoadAnomaly21": (ANOMALY_TRACK, "AnomalyTrack-all"),
    "RoadObstacle21": (OBSTACLE_TRACK, "ObstacleTrack-all"),
}
_TRACK_FOLDERS = {
    "anomalytrack": "RoadAnomaly21",
    "roadanomaly21": "RoadAnomaly21",
    "obstacletrack": "RoadObstacle21",
    "roadobstacle21": "RoadObstacle21",
    "roadobsticle21": "RoadObstacle21",
}
# Ids of the frames with published labels.
_TRACK_FRAMES = {"RoadAnomaly21": re.compile(r"validation\d+"), "RoadObstacle21": re.compile(r"validation_\d+")}

# Folders of the bundle and their data sets. Both RoadAnomaly folders mark anomalies as 2, some copies as 1.
_BUNDLE = {
    "roadanomaly21": "RoadAnomaly21",
    "roadobsticle21": "RoadObstacle21",  # the bundle's spelling
    "roadobstacle21": "RoadObstacle21",
    "fs_lostfound_full": "FS LaF",
    "fs_static": "FS Static",
    "roadanomaly": "RoadAnomaly",
}


def road_anomaly(root: Path, split: str | None) -> list[Dataset]:
    """Recognise RoadAnomaly as published: ``frames/{id}.labels/labels_semantic.png``."""
    if split is not None or not any((root / "frames").glob("*.labels/labels_semantic.png")):
        return []
    samples = [
        Sample(image.stem, image, image.with_suffix(".labels") / "labels_semantic.png")
        for image in images((root / "frames").glob("*"))
    ]
    return [Dataset("RoadAnomaly", "RoadAnomaly (frames)", root, ordered(samples), (ROAD_ANOMALY_LABELS,))]


def segment_me(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``images/`` with ``labels_masks/{id}_labels_semantic.png``: SegmentMeIfYouCan, or a set like it."""
    ids = {path.name.removesuffix(_SUFFIX) for path in images((root / "labels_masks").glob(f"*{_SUFFIX}"))}
    if not ids:
        return []
    of_frames = [name for name, pattern in _TRACK_FRAMES.items() if any(map(pattern.fullmatch, ids))]
    claims = {f"the id {min(filter(_TRACK_FRAMES[name].fullmatch, ids))}": name for name in of_frames}
    name = agreed(root, {"the folder's name": named_in(root.resolve().name, _TRACK_FOLDERS), **claims})
    track, submission = _TRACKS.get(name or "", (ANOMALY_TRACK, ""))
    samples = []
    for image in images((root / "images").glob("*")):
        label = root / "labels_masks" / (image.stem + _SUFFIX)
        validation = image.stem.startswith("validation") or name is None
        if split is None or split == ("validation" if validation else "test"):
            samples.append(Sample(image.stem, image, label if validation or label.is_file() else None))
    if not samples and split is not None:
        return []
    full_name = (name or root.resolve().name) + (f"-{split}" if split else "")
    layout = f"SegmentMeIfYouCan ({track.name} track)" if name else f"images + labels_masks/*{_SUFFIX}"
    return [Dataset(full_name, layout, root, ordered(samples), track=track, submission_name=submission)]


def images_and_labels(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``images/`` with ``labels/{stem}.png``, the plain layout of training; an image may have no labels."""
    if split is not None or (root / "labels_masks").is_dir():
        return []
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return []
    samples = []
    for image in images((root / "images").glob("*")):
        label = root / "labels" / f"{image.stem}.png"
        samples.append(Sample(image.stem, image, label if label.is_file() else None))
    return [Dataset(root.resolve().name, "images + labels", root, ordered(samples))]


def images_and_masks(root: Path, split: str | None) -> list[Dataset]:
    """Recognise ``images/`` with ``labels_masks/`` of the same stem: a folder of the bundle, or any other set."""
    if split is not None or not (root / "images").is_dir() or not (root / "labels_masks").is_dir():
        return []
    if images((root / "labels_masks").glob(f"*{_SUFFIX}")):
        return []
    found = images((root / "images").glob("*"))
    samples = ordered(Sample(image.stem, image, root / "labels_masks" / f"{image.stem}.png") for image in found)
    folder = root.resolve().name
    name = _BUNDLE.get(folder.lower())
    if name is None:
        return [Dataset(folder, "images + labels_masks", root, samples)]
    scenes = "FS LaF" if any(FRAME.search(image.stem) for image in found) else None
    agreed(root, {"the folder's name": name, "the names of its files": scenes})
    maps = (ROAD_ANOMALY_LABELS, PLAIN_LABELS) if name.startswith("RoadAnomaly") else (PLAIN_LABELS,)
    track = OBSTACLE_TRACK if name == "RoadObstacle21" else ANOMALY_TRACK
    return [Dataset(name, f"bundle folder {folder}", root, samples, maps, track)]
