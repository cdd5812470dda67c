"""Frames kept on disk between the two passes of an evaluation: memory stays constant, no score is rounded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import DatasetError
from eomt_ext_core.evaluation.labels import VOID
from eomt_ext_core.files import make_folder, whole_file, writing

_SPARE_BYTES = 256 << 20  # left free on the disk for everything else


@dataclass(frozen=True)
class SpooledFrame:
    """A frame again: ``labels`` (H, W) uint8, or none; ``scores`` (H, W) float32 each, 0 where the label is void.

    ``pictures`` are encoded images by name. ``scores`` is empty where there are no labels.
    """

    labels: NDArray[np.uint8] | None
    scores: dict[str, NDArray[np.float32]]
    pictures: dict[str, bytes]


class Spool:
    """A temporary folder with one file a frame: the labels, and of each score the valid pixels as they are.

    Takes 4 bytes per valid pixel and score. ``folder``: where to put it; by default, where temporary files go.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        if folder is not None:
            make_folder(folder)
        with writing(folder or tempfile.gettempdir()):
            self.folder = Path(tempfile.mkdtemp(prefix=".scores-", dir=folder))

    def write(
        self,
        number: int,
        labels: NDArray[np.uint8] | None,
        scores: Mapping[str, NDArray[np.float32]],
        pictures: Mapping[str, bytes],
    ) -> Path:
        """Keep a frame and return its file. Raises ``DatasetError`` where the disk has no room for it."""
        arrays = {f"picture_{name}": np.frombuffer(encoded, np.uint8) for name, encoded in pictures.items()}
        if labels is not None:
            valid = labels != VOID
            arrays |= {f"score_{name}": score[valid] for name, score in scores.items()}
            arrays["labels"] = cv2.imencode(".png", labels)[1]  # without loss, in a few kilobytes
        needed = sum(part.nbytes for part in arrays.values())
        with writing(self.folder):
            free = shutil.disk_usage(self.folder).free
        if free < needed + _SPARE_BYTES:
            raise DatasetError(
                f"the scores need {needed / 2**20:.1f} MiB more for the second pass, {self.folder.parent} has "
                f"{free / 2**20:.0f} MiB free: make room, ask for fewer scores, or split the data set"
            )
        path = self.folder / f"{number:06d}.npz"
        with whole_file(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        return path

    @staticmethod
    def read(path: Path) -> SpooledFrame:
        """Read a frame back."""
        with np.load(path, allow_pickle=False) as arrays:
            everything = {name: arrays[name] for name in arrays.files}
        encoded = everything.pop("labels", None)
        pictures = {name[8:]: data.tobytes() for name, data in everything.items() if name.startswith("picture_")}
        packed = {name[6:]: values for name, values in everything.items() if name.startswith("score_")}
        if encoded is None:
            return SpooledFrame(None, {}, pictures)
        labels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), dtype=np.uint8)
        scores = {name: np.zeros(labels.shape, dtype=np.float32) for name in packed}
        for name, values in packed.items():
            scores[name][labels != VOID] = values
        return SpooledFrame(labels, scores, pictures)

    def remove(self) -> None:
        """Delete the folder with all frames."""
        shutil.rmtree(self.folder, ignore_errors=True)
