"""Listing of the files of a layout, and checks of a folder's name against its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from eomt_ext_core.datasets.samples import Sample
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.images import images_among


def images(paths: Iterable[Path], stem_suffix: str = "") -> list[Path]:
    """Select the images with a suffix of their stem, sorted, without hidden files."""
    return [path for path in images_among(paths) if path.stem.endswith(stem_suffix)]


def ordered(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Sort samples by their id."""
    return tuple(sorted(samples, key=lambda sample: sample.frame_id))


def folders_beside(root: Path) -> list[Path]:
    """List the folders beside ``root``, including itself, sorted."""
    return sorted(folder for folder in root.resolve().parent.iterdir() if folder.is_dir())


def named_in(folder: str, names: Mapping[str, str]) -> str | None:
    """Find the data set with a spelling that is part of a folder's name, ignoring case and punctuation.

    The longest spelling counts: RoadAnomaly21 contains RoadAnomaly.
    """
    plain = "".join(sign for sign in folder.lower() if sign.isalnum())
    return next((names[key] for key in sorted(names, key=len, reverse=True) if key in plain), None)


def agreed(root: Path, claims: Mapping[str, str | None]) -> str | None:
    """Return the name on which all sources agree, or None if no source has one.

    Args:
        root: the folder, for the message.
        claims: the name of the data set by source, such as ``{"the folder's name": "FS Static"}``.

    Raises:
        DatasetError: if two sources have different names, naming both.
    """
    names = {source: name for source, name in claims.items() if name is not None}
    if len(set(names.values())) > 1:
        both = " and ".join(f"{name} by {source}" for source, name in names.items())
        raise DatasetError(f"{root} must be one data set, it is {both}: rename the wrong one")
    return next(iter(names.values()), None)
