"""Targets of anomaly segmentation: masks with a label each, or a plain label map."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from eomt_ext_core.errors import DatasetError
from eomt_ext_training.data.sample import ANOMALOUS, NORMAL, VOID, Sample


def label_map(target: Mapping[str, Tensor] | Tensor) -> Tensor:
    """Bring a target to one label for each pixel.

    Where masks overlap, void goes before anomalous, and anomalous before normal. A pixel in no mask is void: nothing
    is known of it.

    Args:
        target: ``{"masks": (N, H, W) bool, "labels": (N,) of 0, 1 and 255}``, the form of EoMT-EXT's data sets; or an
            integer label map (H, W), which is checked and returned.

    Returns:
        (H, W) uint8: 0 normal, 1 anomalous, 255 void.

    Raises:
        DatasetError: if shapes do not fit together, or a label is none of the three.

    >>> masks = torch.tensor([[[True, True, False]], [[False, True, False]]])
    >>> label_map({"masks": masks, "labels": torch.tensor([0, 1])})
    tensor([[  0,   1, 255]], dtype=torch.uint8)
    """
    if isinstance(target, Tensor):
        if target.ndim != 2:
            raise DatasetError(f"a label map must be (H, W), got {tuple(target.shape)}")
        _check_labels(target)
        return target.to(torch.uint8)
    missing = {"masks", "labels"} - set(target)
    if missing:
        raise DatasetError(f"a target must hold 'masks' and 'labels', {' and '.join(sorted(missing))} not found")
    masks, labels = target["masks"].bool(), target["labels"]
    if masks.ndim != 3 or labels.shape != masks.shape[:1]:
        raise DatasetError(
            f"a target must have masks (N, H, W) and labels (N,), got {tuple(masks.shape)} and {tuple(labels.shape)}"
        )
    _check_labels(labels)
    pixels = torch.full(masks.shape[1:], VOID, dtype=torch.uint8, device=masks.device)
    for label in (NORMAL, ANOMALOUS, VOID):
        pixels[masks[labels == label].any(dim=0)] = label
    return pixels


def with_label_map(sample: Sample) -> Sample:
    """Return the sample with a checked label map, for any form of its labels.

    Raises:
        DatasetError: naming the sample, if its labels break a rule of :func:`label_map`.
    """
    try:
        return sample._replace(labels=label_map(sample.labels))
    except DatasetError as error:
        raise DatasetError(f"{sample.key}: {error}") from error


def _check_labels(labels: Tensor) -> None:
    if labels.is_floating_point() or labels.is_complex():
        raise DatasetError(f"labels must be integers (0, 1 or 255), got {labels.dtype}")
    foreign = labels[(labels != NORMAL) & (labels != ANOMALOUS) & (labels != VOID)]
    if foreign.numel():
        named = ", ".join(map(str, torch.unique(foreign).tolist()[:8]))
        raise DatasetError(
            f"labels must be 0 (normal), 1 (anomalous) or 255 (void), got {named}: map other values to these"
        )
