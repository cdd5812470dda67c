"""The layouts in which the benchmarks are met on disk, and how each is recognised.

Sources: the benchmarks' own code (github.com/SegmentMeIfYouCan/road-anomaly-benchmark), fishyscapes.com, the Lost and
Found data set (Pinggera et al. 2016), RoadAnomaly (Lis et al. 2019), and the "Validation_Dataset" bundle that many
public evaluations use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.evaluation.datasets.samples import PLAIN_LABELS, Dataset, Sample
from eomt_ext_core.evaluation.labels import ANOMALOUS, NORMAL, VOID
from eomt_ext_core.evaluation.segment_metrics import ANOMALY_TRACK, OBSTACLE_TRACK, SegmentTrack
from eomt_ext_core.images import images_among

LOST_AND_FOUND_LABELS = {0: VOID, 1: NORMAL} | {value: ANOMALOUS if value <= 200 else VOID for value in range(2, 256)}
ROAD_ANOMALY_LABELS = {0: NORMAL, 2: ANOMALOUS, 255: VOID}

# Folders of the bundle: what they hold. Both RoadAnomaly folders mark anomaly as 2, and some copies of them as 1.
_BUNDLE: dict[str, tuple[str, SegmentTrack]] = {
    "roadanomaly21": ("RoadAnomaly21", ANOMALY_TRACK),
    "roadobsticle21": ("RoadObstacle21", OBSTACLE_TRACK),  # so spelled there
    "roadobstacle21": ("RoadObstacle21", OBSTACLE_TRACK),
    "fs_lostfound_full": ("FS LaF", ANOMALY_TRACK),
    "fs_static": ("FS Static", ANOMALY_TRACK),
    "roadanomaly": ("RoadAnomaly", ANOMALY_TRACK),
}
_EXPECTED = """a folder evaluated must hold one of
  images/ + labels_masks/{stem}.png                              (plain, and folders of the Validation_Dataset bundle)
  images/ + labels_masks/{id}_labels_semantic.png                (SegmentMeIfYouCan: RoadAnomaly21, RoadObstacle21)
  leftImg8bit/{split}/{scene}/ + gtCoarse/{split}/{scene}/       (Lost & Found)
  labels/{split}/{id}_fishy-labels.png, Lost & Found beside it   (FS LaF)
  fs_val_v*/ + fs_static_images_v*/, or original/ + labels/      (FS Static)
  frames/{stem}.labels/labels_semantic.png                       (RoadAnomaly)
or be a folder of such folders"""


def open_datasets(path: str | Path, split: str | None = None) -> list[Dataset]:
    """Recognise the layout of a folder, or of each of its folders.

    Args:
        path: the folder.
        split: keep the data sets of this split only, such as ``val`` or ``test``, of layouts that have splits.

    Returns:
        one data set per split and folder, in the order of their names; images are not opened.

    Raises:
        DatasetError: where there is no such folder, layout or split, where an image has no label, or there is none.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: {_EXPECTED}")
    found = _recognise(root, split)
    if not found:
        folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        found = [dataset for folder in folders for dataset in _recognise(folder, split)]
    if not found:
        raise DatasetError(f"{root}: no layout recognised{f' with the split {split!r}' if split else ''}; {_EXPECTED}")
    return found


def _recognise(root: Path, split: str | None) -> list[Dataset]:
    layouts: tuple[Callable[[Path, str | None], list[Dataset]], ...] = (
        _lost_and_found,
        _fishyscapes_laf,
        _fishyscapes_static,
        _road_anomaly,
        _segment_me,
        _images_and_masks,
    )
    return next((found for layout in layouts if (found := layout(root, split))), [])


def _lost_and_found(root: Path, split: str | None) -> list[Dataset]:
    if not (root / "leftImg8bit").is_dir() or not (root / "gtCoarse").is_dir():
        return []
    datasets = []
    for folder in sorted((root / "leftImg8bit").iterdir()):
        if not folder.is_dir() or split not in (None, folder.name):
            continue
        samples = []
        for image in _images(folder.glob("*/*"), "_leftImg8bit"):
            frame_id = image.stem.removesuffix("_leftImg8bit")
            label = root / "gtCoarse" / folder.name / image.parent.name / f"{frame_id}_gtCoarse_labelIds.png"
            samples.append(_labelled(frame_id, image, label))
        name = f"LostAndFound-{folder.name}"
        maps = (LOST_AND_FOUND_LABELS,)
        datasets.append(Dataset(name, "Lost & Found", root, _sorted(samples), maps, OBSTACLE_TRACK, name))
    return datasets


def _fishyscapes_laf(root: Path, split: str | None) -> list[Dataset]:
    datasets = []
    for folder in sorted((root / "labels").glob("*/")):
        labels = images_among(folder.glob("*_fishy-labels.png"))
        if not labels or split not in (None, folder.name):
            continue
        homes = [home for home in (root, root.parent / "dataset_LostAndFound", *_siblings(root)) if home.is_dir()]
        images = {
            image.stem.removesuffix("_leftImg8bit"): image
            for home in reversed(homes)
            for image in _images((home / "leftImg8bit").glob("*/*/*"), "_leftImg8bit")
        }
        samples = []
        for label in labels:
            frame_id = label.name.removesuffix("_fishy-labels.png")
            if frame_id not in images:
                raise DatasetError(
                    f"{label} needs the image {frame_id}_leftImg8bit.png of Lost & Found: put that data set "
                    f"(leftImg8bit/) into {root} or into a folder beside it"
                )
            samples.append(Sample(frame_id, images[frame_id], label))
        datasets.append(
            Dataset(f"FS LaF-{folder.name}", "FS LaF", root, _sorted(samples), submission_name="LostAndFound-train")
        )
    return datasets


def _fishyscapes_static(root: Path, split: str | None) -> list[Dataset]:
    pairs = [(root / "original", root / "labels")]
    pairs += [
        (images, labels) for labels in sorted(root.glob("fs_val_v*/")) for images in root.glob("fs_static_images_v*/")
    ]
    for image_folder, label_folder in pairs:
        labels = {_bare(path.stem, "labels"): path for path in images_among(label_folder.glob("*.png"))}
        images = {_bare(path.stem, "rgb"): path for path in _images(image_folder.glob("*"), "")}
        if not labels or not images or split not in (None, "val"):
            continue
        missing = sorted(labels.keys() ^ images.keys())
        if missing:
            raise DatasetError(f"{root}: images and labels must pair up, {missing[0]!r} has only one of them")
        samples = (Sample(key, images[key], label) for key, label in labels.items())
        return [Dataset("FS Static", f"FS Static ({image_folder.name} + {label_folder.name})", root, _sorted(samples))]
    return []


def _road_anomaly(root: Path, split: str | None) -> list[Dataset]:
    if split is not None or not any((root / "frames").glob("*.labels/labels_semantic.png")):
        return []
    samples = [
        _labelled(image.stem, image, image.with_suffix(".labels") / "labels_semantic.png")
        for image in _images((root / "frames").glob("*"), "")
    ]
    return [Dataset("RoadAnomaly", "RoadAnomaly (frames)", root, _sorted(samples), (ROAD_ANOMALY_LABELS,))]


def _segment_me(root: Path, split: str | None) -> list[Dataset]:
    suffix = "_labels_semantic.png"
    if not any((root / "labels_masks").glob(f"*{suffix}")):
        return []
    obstacle = "obstacle" in root.name.lower()
    name, track = ("RoadObstacle21", OBSTACLE_TRACK) if obstacle else ("RoadAnomaly21", ANOMALY_TRACK)
    samples = []
    for image in _images((root / "images").glob("*"), ""):
        label = root / "labels_masks" / (image.stem + suffix)
        validation = image.stem.startswith("validation")
        if validation and not label.is_file():
            raise DatasetError(f"{image} has no label, {label} is not there")
        if split is None or split == ("validation" if validation else "test"):
            samples.append(Sample(image.stem, image, label if label.is_file() else None))
    submission = "ObstacleTrack-all" if obstacle else "AnomalyTrack-all"
    layout = f"SegmentMeIfYouCan ({track.name} track)"
    full_name = f"{name}-{split}" if split else name
    return (
        [Dataset(full_name, layout, root, _sorted(samples), track=track, submission_name=submission)] if samples else []
    )


def _images_and_masks(root: Path, split: str | None) -> list[Dataset]:
    if split is not None or not (root / "images").is_dir() or not (root / "labels_masks").is_dir():
        return []
    samples = [
        _labelled(image.stem, image, root / "labels_masks" / f"{image.stem}.png")
        for image in _images((root / "images").glob("*"), "")
    ]
    name, track = _BUNDLE.get(root.name.lower(), ("", ANOMALY_TRACK))
    if not name:
        return [Dataset(root.resolve().name, "images + labels_masks", root, _sorted(samples))]
    maps = (ROAD_ANOMALY_LABELS, PLAIN_LABELS) if name.startswith("RoadAnomaly") else (PLAIN_LABELS,)
    return [Dataset(name, f"bundle folder {root.name}", root, _sorted(samples), maps, track)]


def _images(paths: Iterable[Path], stem_suffix: str) -> list[Path]:
    return [path for path in images_among(paths) if path.stem.endswith(stem_suffix)]


def _labelled(frame_id: str, image: Path, label: Path) -> Sample:
    if not label.is_file():
        raise DatasetError(f"{image} has no label, {label} is not there")
    return Sample(frame_id, image, label)


def _sorted(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.frame_id))


def _siblings(root: Path) -> list[Path]:
    return sorted(folder for folder in root.resolve().parent.iterdir() if folder.is_dir())


def _bare(stem: str, ending: str) -> str:
    return stem.removesuffix(ending).rstrip("_-")
