"""Frames kept on disk between the two passes of an evaluation: memory stays constant, no score is rounded."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import VOID
from eomt_ext_core.errors import DatasetError
from eomt_ext_core.files import make_folder, whole_file, writing

_PREFIX, _LOCK = ".scores-", ".lock"
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

    Takes 4 bytes per valid pixel and score. As long as a process has a spool it holds a lock in it, which ends with the
    process however that ends: spools that nobody holds any more are deleted by whoever makes one beside them.

    Args:
        folder: where to put it; by default, where temporary files go.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        parent = Path(tempfile.gettempdir() if folder is None else folder)
        make_folder(parent)
        for left in parent.glob(f"{_PREFIX}*"):
            _remove_if_free(left)
        self._lock: int | None = None
        while self._lock is None:  # between the two lines another process may find the folder free, and delete it
            with writing(parent):
                self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            try:
                self._lock = _locked(self.folder, fcntl.LOCK_SH)
            except OSError:
                break  # the file system has no locks: nobody can find the folder free either

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        """In another process, which then holds the spool too, if it reaches the folder."""
        self.folder, self._lock = folder, None
        with suppress(OSError):
            self._lock = _locked(folder, fcntl.LOCK_SH)

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
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_if_free(folder: Path) -> None:
    """Delete a spool if no process holds it, and nothing is in it that a spool does not write."""
    with suppress(OSError):  # it is another user's, or gone
        if folder.is_symlink() or any(file.suffix != ".npz" and file.name != _LOCK for file in folder.iterdir()):
            return
        lock = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked(folder: Path, kind: int) -> int | None:
    """The open lock file of a spool, or None if the folder was deleted meanwhile.

    Raises ``BlockingIOError`` if another process holds it and ``kind`` does not wait.
    """
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, kind)
        if os.fstat(lock).st_nlink:
            return lock
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
