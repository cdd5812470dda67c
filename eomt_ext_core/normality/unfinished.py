"""What an interrupted run has learnt, in a file beside its output, from which the next run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from eomt_ext_core.errors import CheckpointError, ConfigError
from eomt_ext_core.files import printable, save_tensors
from eomt_ext_core.images import list_images
from eomt_ext_core.model.weight_files import read_tensors

_METADATA_KEY = "eomt_ext_unfinished"
_REPLACES_KEY = "eomt_ext_replaces"
_VERSION = 1  # of what a state holds
SAVE_EVERY_S = 30.0


class Unfinished:
    """Keep the state of a run in a file, until the run is finished.

    Args:
        output: what the run will write; the state is beside it, as ``.NAME.unfinished.safetensors``.
        run: fingerprint of whatever another result would follow from: model, settings, inputs.
        replaces: whether it began with ``--overwrite``.
        save_every_s: seconds from one saving to the next.
    """

    def __init__(self, output: Path, run: str, replaces: bool = False, save_every_s: float = SAVE_EVERY_S) -> None:
        self.path = unfinished_path(output)
        self._run = f"{_VERSION} {run}"
        self._texts = {_METADATA_KEY: self._run, _REPLACES_KEY: str(replaces)}
        self._save_every_s = save_every_s
        self._saved_s = time.monotonic()

    def load(self) -> dict[str, Tensor]:
        """Read the state of this run; empty if there is none.

        Raises:
            ConfigError: if it is damaged, or of another run.
        """
        if not self.path.is_file():
            return {}
        why = "it is of another model, other settings or other images, give those of that run"
        try:
            tensors, texts = read_tensors(self.path)
            if texts.get(_METADATA_KEY) == self._run:
                return tensors
        except CheckpointError as error:
            why = str(error)
        raise ConfigError(f"{printable(self.path)} cannot be resumed: {why}; or begin anew with --overwrite")

    def require_choice(self, resume: bool) -> None:
        """Refuse to begin anew silently if an interrupted run could be resumed.

        Raises:
            ConfigError: if there is one and ``resume`` is false.
        """
        if self.path.is_file() and not resume:
            raise ConfigError(
                f"{printable(self.path)} holds a run that was interrupted: go on with --resume, or begin anew with "
                "--overwrite"
            )

    def is_due(self) -> bool:
        """Whether it is time to save the state."""
        return time.monotonic() - self._saved_s >= self._save_every_s

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the state.

        Raises:
            OutputError: if the file cannot be written.
        """
        save_tensors(self.path, tensors, self._texts)
        self._saved_s = time.monotonic()

    def finish(self) -> None:
        """Remove the file: the run has written its output."""
        self.path.unlink(missing_ok=True)


def unfinished_path(output: Path) -> Path:
    """Name the file that holds the state of an interrupted run for an output."""
    return output.with_name(f".{output.stem}.unfinished.safetensors")


def began_with_overwrite(output: Path) -> bool:
    """Whether an interrupted run may replace the output; one whose state is damaged or missing may not."""
    try:
        _, texts = read_tensors(unfinished_path(output))
    except CheckpointError:
        return False
    return texts.get(_REPLACES_KEY) == str(True)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """List the files of drives: videos, the images in folders, and the files of bags."""
    return [file for path in paths for file in (_inside(path) if path.is_dir() else [path])]


def _inside(folder: Path) -> list[Path]:
    return list_images(folder) or sorted(file for file in folder.iterdir() if not file.name.startswith("."))
