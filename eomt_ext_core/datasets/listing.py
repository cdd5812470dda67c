"""Listing the files of a layout, and holding what a folder is called against what lies in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from eomt_ext_core.datasets.samples import Sample
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.images import images_among


def images(paths: Iterable[Path], stem_suffix: str = "") -> list[Path]:
    """The images among paths whose stem ends so, sorted; hidden files are none."""
    return [path for path in images_among(paths) if path.stem.endswith(stem_suffix)]


def ordered(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Samples by their id."""
    return tuple(sorted(samples, key=lambda sample: sample.frame_id))


def folders_beside(root: Path) -> list[Path]:
    """The folders that share a parent with ``root``, itself included, sorted."""
    return sorted(folder for folder in root.resolve().parent.iterdir() if folder.is_dir())


def named_in(folder: str, names: Mapping[str, str]) -> str | None:
    """The data set whose spelling is part of a folder's name, in whatever case and with whatever signs between.

    The longest spelling counts: RoadAnomaly21 holds RoadAnomaly too.
    """
    plain = "".join(sign for sign in folder.lower() if sign.isalnum())
    return next((names[key] for key in sorted(names, key=len, reverse=True) if key in plain), None)


def agreed(root: Path, claims: Mapping[str, str | None]) -> str | None:
    """The one name that everything says, or none where nothing says any.

    Args:
        root: the folder, for the message.
        claims: the name of the data set by what says so, such as ``{"the folder's name": "FS Static"}``.

    Raises:
        DatasetError: where two names are said, naming both.
    """
    said = {source: name for source, name in claims.items() if name is not None}
    if len(set(said.values())) > 1:
        both = " and ".join(f"{name} by {source}" for source, name in said.items())
        raise DatasetError(f"{root} must be one data set, it is {both}: rename what is named wrongly")
    return next(iter(said.values()), None)
