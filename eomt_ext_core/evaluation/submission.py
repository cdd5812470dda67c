"""Scores in the files that the benchmark SegmentMeIfYouCan takes.

Its code (github.com/SegmentMeIfYouCan/road-anomaly-benchmark, ``evaluation.py``, ``datasets/dataset_io.py``) looks for
``anomaly_p/{method}/{data set}/{image}.hdf5`` in its folder of outputs, each with one variable ``value``: (H, W)
float16, gzip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import whole_file

_GZIP_LEVEL = 9  # as the benchmark's own writer


@dataclass(frozen=True)
class SubmissionWriter:
    """Writes each score as a method of its own, ``{method}-{score}``.

    ``folder``: becomes the benchmark's folder of outputs. Raises ``ConfigError`` where h5py is missing.
    """

    folder: Path
    method: str

    def __post_init__(self) -> None:
        try:
            import h5py  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"the benchmark's files are HDF5: install the extra 'benchmark' ({error})") from error

    def write(self, dataset_name: str, frame_id: str, scores: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the scores (H, W) of an image, rounded to float16 as the benchmark's own writer does."""
        import h5py

        for score, values in scores.items():
            path = self.folder / "anomaly_p" / f"{self.method}-{score}" / dataset_name / f"{frame_id}.hdf5"
            with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
                file.create_dataset("value", data=values.astype(np.float16), compression=_GZIP_LEVEL)
