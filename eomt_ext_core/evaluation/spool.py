"""Frames on disk between the two passes of an evaluation: memory stays constant, no score is rounded."""

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
from eomt_ext_core.files import atomic_write, make_folder, writing

_PREFIX, _LOCK = ".scores-", ".lock"
_SPARE_BYTES = 256 << 20  # left free on the disk for everything else


@dataclass(frozen=True)
class SpooledFrame:
    """A frame read back: ``labels`` (H, W) uint8, or None; ``scores`` (H, W) float32 each, 0 at void pixels.

    ``thumbnails``: encoded images by name. ``scores`` is empty if there are no labels.
    """

    labels: NDArray[np.uint8] | None
    scores: dict[str, NDArray[np.float32]]
    thumbnails: dict[str, bytes]


class Spool:
    """A temporary folder with a file for each frame: its labels, and the valid pixels of each score, unrounded.

    Takes 4 bytes for each valid pixel and score. A process holds a lock in its spool, which the system releases however
    the process ends. Making a spool deletes all spools beside it that no process holds.

    Args:
        folder: parent of the spool; by default the system's folder for temporary files.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        parent = Path(tempfile.gettempdir() if folder is None else folder)
        make_folder(parent)
        for left in parent.glob(f"{_PREFIX}*"):
            _remove_if_free(left)
        self._lock: int | None = None
        while self._lock is None:  # another process may delete the new folder before it is locked
            with writing(parent):
                self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            try:
                self._lock = _locked(self.folder, fcntl.LOCK_SH)
            except OSError:
                break  # a file system without locks: no other process can lock and delete the folder either

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        """Hold the spool in another process too, if that reaches the folder."""
        self.folder, self._lock = folder, None
        with suppress(OSError):
            self._lock = _locked(folder, fcntl.LOCK_SH)

    def write(
        self,
        number: int,
        labels: NDArray[np.uint8] | None,
        scores: Mapping[str, NDArray[np.float32]],
        thumbnails: Mapping[str, bytes],
    ) -> Path:
        """Write a frame and return its file. Raises ``DatasetError`` if the disk is full."""
        arrays = {f"thumbnail_{name}": np.frombuffer(encoded, np.uint8) for name, encoded in thumbnails.items()}
        if labels is not None:
            valid = labels != VOID
            arrays |= {f"score_{name}": score[valid] for name, score in scores.items()}
            arrays["labels"] = cv2.imencode(".png", labels)[1]  # without loss, in a few kilobytes
        needed = sum(part.nbytes for part in arrays.values())
        with writing(self.folder):
            free = shutil.disk_usage(self.folder).free
        if free < needed + _SPARE_BYTES:
            raise DatasetError(
                f"the second pass needs {needed / 2**20:.1f} MiB more for its scores, {self.folder.parent} has only "
                f"{free / 2**20:.0f} MiB free: free space, evaluate fewer scores, or split the data set"
            )
        path = self.folder / f"{number:06d}.npz"
        with atomic_write(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        return path

    @staticmethod
    def read(path: Path) -> SpooledFrame:
        """Read a frame back."""
        with np.load(path, allow_pickle=False) as arrays:
            everything = {name: arrays[name] for name in arrays.files}
        encoded = everything.pop("labels", None)
        thumbnails = {name[10:]: data.tobytes() for name, data in everything.items() if name.startswith("thumbnail_")}
        packed = {name[6:]: values for name, values in everything.items() if name.startswith("score_")}
        if encoded is None:
            return SpooledFrame(None, {}, thumbnails)
        labels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), dtype=np.uint8)
        scores = {name: np.zeros(labels.shape, dtype=np.float32) for name in packed}
        for name, values in packed.items():
            scores[name][labels != VOID] = values
        return SpooledFrame(labels, scores, thumbnails)

    def remove(self) -> None:
        """Delete the folder with all frames."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _remove_if_free(folder: Path) -> None:
    """Delete a spool if no process holds it and it contains only files that a spool writes."""
    with suppress(OSError):  # it belongs to another user, or is gone
        if folder.is_symlink() or any(file.suffix != ".npz" and file.name != _LOCK for file in folder.iterdir()):
            return
        lock = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked(folder: Path, kind: int) -> int | None:
    """Lock a spool; returns the open lock file, or None if the folder has been deleted.

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
