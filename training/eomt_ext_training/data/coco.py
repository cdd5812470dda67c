"""Objects cut out of COCO images along their annotated outlines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core import images as images_package
from eomt_ext_core.errors import DatasetError, EomtExtError
from eomt_ext_core.fingerprint import fingerprint_of
from eomt_ext_core.images import read_rgb
from eomt_ext_core.scenes import Sprite
from eomt_ext_training.data import cutouts
from eomt_ext_training.data.cutouts import checked_heights, drawn_sprite, trimmed
from eomt_ext_training.data.stored.image_files import report_skipped

# What belongs to normal traffic, and thus to the classes of Cityscapes.
TRAFFIC_CATEGORIES = (
    "person", "bicycle", "car", "motorcycle", "bus", "train", "truck", "traffic light", "fire hydrant", "stop sign",
    "parking meter", "bench", "potted plant",
)  # fmt: skip
_FEATHER_PX = 1.0


class CocoCutouts:
    """Instances of the COCO categories that are no traffic (Lin et al., ECCV 2014), as things to paste.

    Crowds, small instances, and those cut off by the border of their image are left out. Outlines are polygons, or
    uncompressed run lengths; the compressed run lengths of pycocotools are skipped and counted.

    Args:
        annotations: ``instances_*.json``.
        images: folder with the images.
        exclude: names of categories to leave out.
        min_area_px: smallest annotated area, in pixels of the COCO image.
        max_cutouts: most instances; drawn by ``seed`` if there are more. Each takes up to 0.25 MB of memory.
        height_m: smallest and largest height of a pasted object in metres.
        seed: of the draw.

    Attributes:
        skipped: a line for each instance with an unreadable outline or image.

    Raises:
        DatasetError: if the annotations cannot be read, or no instance is left.
    """

    def __init__(
        self,
        annotations: str,
        images: str,
        exclude: Sequence[str] = TRAFFIC_CATEGORIES,
        min_area_px: float = 2500.0,
        max_cutouts: int = 1000,
        height_m: tuple[float, float] = (0.2, 1.6),
        seed: int = 0,
    ) -> None:
        self.height_m = checked_heights(height_m)
        self._settings = (tuple(exclude), min_area_px, max_cutouts, self.height_m, seed)
        self._annotations = Path(annotations)
        file_names, candidates = _candidates(self._annotations, set(exclude), min_area_px)
        order = np.random.default_rng(seed).permutation(len(candidates))[:max_cutouts]
        self._cutouts: list[NDArray[np.uint8]] = []
        self._kept_ids: list[Any] = []
        self._used_paths: set[Path] = set()
        skipped: list[str] = []
        for row in np.sort(order):
            instance = candidates[row]
            path = Path(images) / file_names[instance["image_id"]]
            try:
                self._cutouts.append(_cut_out(read_rgb(path), instance))
                self._kept_ids.append(instance.get("id"))
                self._used_paths.add(path)
            except EomtExtError as error:
                skipped.append(str(error))
        self.skipped = tuple(skipped)
        report_skipped(skipped, len(order), annotations)
        if not self._cutouts:
            first = f"; the first: {skipped[0]}" if skipped else ""
            raise DatasetError(
                f"{annotations} must give at least one cut-out, got none of {len(order)} instances{first}"
            )

    def __len__(self) -> int:
        return len(self._cutouts)

    def draw(self, rng: np.random.Generator, px_per_m: float) -> Sprite:
        """Take one of the instances, at a random height."""
        return drawn_sprite(self._cutouts, self.height_m, rng)

    def fingerprint(self) -> str:
        """Covers the settings, the annotation file, the images, which instances are there, and the code."""
        files = [self._annotations, *self._used_paths]
        return fingerprint_of((self._settings, self._kept_ids), files, [sys.modules[__name__], cutouts, images_package])


def instance_mask(segmentation: Any, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Convert a COCO segmentation to an (h, w) mask of 0 and 255.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, …]`` in pixels, of which the union counts, or
            ``{"size": [h, w], "counts": […]}``: run lengths down the columns, clear first.
        size_hw: of the image.

    Raises:
        DatasetError: if it is neither.

    >>> instance_mask({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2)).tolist()
    [[0, 255], [255, 0]]
    """
    mask = np.zeros(size_hw, np.uint8)
    if isinstance(segmentation, list):
        for polygon in segmentation:
            corners = np.asarray(polygon, np.float64).reshape(-1, 2)
            # COCO's x runs over pixel edges, OpenCV's over pixel centres; 4 fractional bits.
            cv2.fillPoly(mask, [np.rint((corners - 0.5) * 16.0).astype(np.int32)], 255.0, cv2.LINE_8, 4)
        return mask
    counts = segmentation.get("counts") if isinstance(segmentation, dict) else None
    if not isinstance(counts, list):
        raise DatasetError("its outline must be polygons or uncompressed run lengths")
    if list(segmentation.get("size", ())) != list(size_hw) or sum(counts) != mask.size:
        raise DatasetError(f"its run lengths must fill {size_hw}, got {sum(counts)} pixels")
    values = (np.arange(len(counts)) % 2 * 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(values, counts).reshape(size_hw[::-1]).T)


def _candidates(path: Path, exclude: set[str], min_area_px: float) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """File names by image id, and the instances that are worth cutting out."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        file_names = {image["id"]: image["file_name"] for image in content["images"]}
        sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
        wanted = {item["id"] for item in content["categories"] if item["name"] not in exclude}
        chosen = []
        for instance in content["annotations"]:
            x, y, width, height = instance["bbox"]
            image_width, image_height = sizes[instance["image_id"]]
            whole = x > 1 and y > 1 and x + width < image_width - 1 and y + height < image_height - 1
            large = instance["area"] >= min_area_px
            if whole and large and instance["category_id"] in wanted and not instance.get("iscrowd", 0):
                chosen.append(instance)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: not the instances of a COCO data set: {error!r}") from error
    return file_names, chosen


def _cut_out(image_rgb: NDArray[np.uint8], instance: dict[str, Any]) -> NDArray[np.uint8]:
    try:
        mask = instance_mask(instance["segmentation"], image_rgb.shape[:2])
    except (DatasetError, KeyError, ValueError) as error:
        raise DatasetError(f"instance {instance.get('id')}: {error}") from error
    if not mask.any():
        raise DatasetError(f"instance {instance.get('id')}: its outline is empty")
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8))  # annotated outlines hold a rim of background
    if not inner.any():
        raise DatasetError(f"instance {instance.get('id')}: its outline is thinner than 3 px")
    alpha = cv2.GaussianBlur(inner, (0, 0), _FEATHER_PX)
    return trimmed(np.dstack([image_rgb, alpha]))
