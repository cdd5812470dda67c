"""Recognition of the layouts in which the benchmarks are published.

Sources: the benchmarks' own code (github.com/SegmentMeIfYouCan/road-anomaly-benchmark, github.com/hermannsblum/
bdl-benchmark), fishyscapes.com, the Lost and Found data set (Pinggera et al. 2016), RoadAnomaly (Lis et al. 2019), the
form in which SynBoost and PEBAL distribute them, and the "Validation_Dataset" bundle that many public evaluations use.

A set gets the name of a benchmark if its folders or files are named like those of the benchmark. If they fit two
benchmarks, that is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from eomt_ext_core.datasets.fishyscapes import fishyscapes_static, original_and_labels
from eomt_ext_core.datasets.labels import LabelValues
from eomt_ext_core.datasets.lost_and_found import fishyscapes_laf, fishyscapes_laf_download, lost_and_found
from eomt_ext_core.datasets.road_anomaly import images_and_labels, images_and_masks, road_anomaly, segment_me
from eomt_ext_core.datasets.samples import Dataset
from eomt_ext_core.errors import DatasetError

_LAYOUTS: tuple[Callable[[Path, str | None], list[Dataset]], ...] = (
    lost_and_found,
    fishyscapes_laf,
    fishyscapes_laf_download,
    fishyscapes_static,
    original_and_labels,
    road_anomaly,
    segment_me,
    images_and_masks,
    images_and_labels,
)
_EXPECTED = """an evaluated folder must contain one of
  images/ + labels/{stem}.png                                    (plain)
  images/ + labels_masks/{stem}.png                              (plain, and folders of the Validation_Dataset bundle)
  images/ + labels_masks/{id}_labels_semantic.png                (SegmentMeIfYouCan: RoadAnomaly21, RoadObstacle21)
  leftImg8bit/{split}/{scene}/ + gtCoarse/{split}/{scene}/       (Lost & Found)
  labels/{split}/{id}_fishy-labels.png, Lost & Found beside it   (FS LaF)
  {number}_{id}_labels.png, Lost & Found beside it               (FS LaF: fishyscapes_lostandfound)
  fs_val_v*/ + fs_static_images*/                                (FS Static)
  original/ + labels/                                            (FS LaF, FS Static, RoadAnomaly, by the folder's name)
  frames/{stem}.labels/labels_semantic.png                       (RoadAnomaly)
or be a folder of such folders"""


def open_datasets(path: str | Path, split: str | None = None, label_values: LabelValues | None = None) -> list[Dataset]:
    """Recognise the layout of a folder, or of each of its folders.

    Args:
        path: the folder.
        split: keep only data sets of this split, such as ``val`` or ``test``.
        label_values: the meaning of the values in the labels, if it differs from that of the layout.

    Returns:
        one data set for each split and folder, in the order of their names; no image is opened.

    Raises:
        DatasetError: if there is no such folder, layout, split or image, if a folder fits two data sets, or if none of
            its images has a label.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"{root} must be an existing folder: {_EXPECTED}")
    found = _recognise(root, split)
    if not found:
        folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        found = [dataset for folder in folders for dataset in _recognise(folder, split)]
    if not found:
        raise DatasetError(f"{root}: no layout recognised{f' with the split {split!r}' if split else ''}; {_EXPECTED}")
    if label_values is None:
        return found
    return [replace(dataset, label_maps=(label_values,), has_given_values=True) for dataset in found]


def _recognise(root: Path, split: str | None) -> list[Dataset]:
    found = [datasets for layout in _LAYOUTS if (datasets := layout(root, split))]
    if len(found) > 1:
        both = " and ".join(f"{datasets[0].name} ({datasets[0].layout})" for datasets in found)
        raise DatasetError(f"{root.resolve()} must be one data set, it fits {both}: put each into its own folder")
    return found[0] if found else []
