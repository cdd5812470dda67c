"""Which data were used, hash by hash, and whether sets that must be independent share an image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path

from eomt_ext_core.datasets import Dataset
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evidence.hashes import HashedFile, digest_of
from eomt_ext_core.evidence.pack import Missing, Part, table
from eomt_ext_core.files import printable
from eomt_ext_core.progress import tracked

_STATEMENTS = ("readme", "license", "licence", "copying", "notice")  # what the names of such files begin with
_OPTIONS = {"evaluation": "--data FOLDER", "calibration": "--calibration-data FOLDER"}
_SHOWN = 3


@dataclass(frozen=True)
class HashedSet:
    """A data set with the hashes of its files.

    ``use``: evaluation or calibration; ``left_out``: why a file has no hash, a line for each.
    """

    dataset: Dataset
    use: str
    images: tuple[HashedFile, ...]
    labels: tuple[HashedFile, ...]
    statements: tuple[HashedFile, ...]
    left_out: tuple[str, ...]

    @property
    def files(self) -> tuple[HashedFile, ...]:
        """All of them."""
        return (*self.images, *self.labels, *self.statements)


def hashed(dataset: Dataset, use: str, given: Sequence[Path]) -> HashedSet:
    """Read the files of a data set, and what its folder states of their origin: README, LICENSE, COPYING, NOTICE.

    A file that is missing or cannot be read has no hash, and is named.

    Args:
        dataset: to be read.
        use: evaluation or calibration.
        given: the folders that the user named; a statement may be in the one that the set lies in, too.
    """
    images = [sample.image_path for sample in dataset.samples]
    labels = [sample.label_path for sample in dataset.samples if sample.label_path is not None]
    folders = [dataset.root, *(folder for folder in given if folder.resolve() == dataset.root.resolve().parent)]
    statements = sorted(
        path
        for folder in folders
        for path in folder.iterdir()
        if path.name.lower().startswith(_STATEMENTS) and not os.path.isdir(path)
    )
    left_out: list[str] = []
    shown = iter(tracked([*images, *labels, *statements], "hashing", len(images) + len(labels) + len(statements)))
    of_images, of_labels, of_statements = (
        _hashes(islice(shown, len(paths)), left_out) for paths in (images, labels, statements)
    )
    return HashedSet(dataset, use, of_images, of_labels, of_statements, tuple(left_out))


def _hashes(paths: Iterable[Path], left_out: list[str]) -> tuple[HashedFile, ...]:
    found = []
    for path in paths:
        try:
            found.append(HashedFile.of(path))
        except ConfigError as error:
            left_out.append(str(error))
    return tuple(found)


def data_part(sets: Sequence[HashedSet], uses: Sequence[str]) -> Part:
    """Say which data were used, and which sets share images.

    Args:
        sets: all data sets.
        uses: of data that there should be.
    """
    missing = [
        Missing(
            f"who took the images of {printable(part.dataset.name)}, where and when, and what may be done with them, "
            "is not known: its folder has no README, LICENSE, COPYING or NOTICE",
            f"put a README or LICENSE into {_folder(part)}",
        )
        for part in sets
        if not part.statements
    ]
    missing += [
        Missing(
            f"{len(part.left_out)} files of {printable(part.dataset.name)} have no hash, such as: {part.left_out[0]}",
            "make them readable, and the pack anew",
        )
        for part in sets
        if part.left_out
    ]
    for use in sorted({*uses} - {part.use for part in sets}, reverse=True):
        missing.append(Missing(f"no {use} data were given, so that nothing is known of them", _OPTIONS[use]))
    shared = [_shared(*pair) for pair in combinations(sets, 2)]
    missing += [
        Missing(f"independence: {number} images are in both {one} and {other}", "give other images")
        for one, other, number, _ in shared
        if number
    ]
    source = "the files, read when this pack was made; each is in files.sha256"
    statements = [
        (printable(part.dataset.name), printable(file.path.name), file.sha256)
        for part in sets
        for file in part.statements
    ]
    columns = ("use", "set", "layout", "folder", "images", "labels", "SHA-256 of the contents")
    return Part(
        "The data",
        "Which data, where from, complete, and independent of each other?",
        tables=(
            *table("Sets", columns, map(_row, sets), source),
            *table("Statements of origin", ("set", "file", "SHA-256"), statements, source),
            *table(
                "Images in two sets",
                ("one", "other", "same images", "such as"),
                shared,
                "the hashes of the images: the same picture in another file is not found",
            ),
        ),
        missing=tuple(missing),
        left_out=tuple(line for part in sets for line in part.left_out),
    )


def _row(part: HashedSet) -> tuple[str, str, str, str, int, int, str]:
    name, layout, contents = printable(part.dataset.name), printable(part.dataset.layout), digest_of(part.files)
    return part.use, name, layout, _folder(part), len(part.images), len(part.labels), contents


def _folder(part: HashedSet) -> str:
    return printable(part.dataset.root.resolve())


def _shared(first: HashedSet, second: HashedSet) -> tuple[str, str, int, str]:
    hashes = {file.sha256 for file in second.images}
    same = [file.path for file in first.images if file.sha256 in hashes]
    names = ", ".join(printable(Path(path).name) for path in same[:_SHOWN]) + (", …" if len(same) > _SHOWN else "")
    one, other = (f"{printable(part.dataset.name)} ({part.use})" for part in (first, second))
    return one, other, len(same), names
