"""Score files for the benchmark SegmentMeIfYouCan.

Its code (github.com/SegmentMeIfYouCan/road-anomaly-benchmark, ``evaluation.py``, ``datasets/dataset_io.py``) reads
``anomaly_p/{method}/{data set}/{image}.hdf5`` from its output folder, each with one variable ``value``: (H, W) float16,
gzip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.files import atomic_write

_GZIP_LEVEL = 9  # as the benchmark's own writer


@dataclass(frozen=True)
class SubmissionWriter:
    """Write each score as a separate method, ``{method}-{score}``.

    ``folder``: to use as the benchmark's output folder. Raises ``ConfigError`` if h5py is missing.
    """

    folder: Path
    method: str

    def __post_init__(self) -> None:
        try:
            import h5py  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"submission files need h5py: install the extra 'benchmark' ({error})") from error

    def write(self, dataset_name: str, frame_id: str, scores: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the scores (H, W) of an image, rounded to float16 as the benchmark's own writer does."""
        import h5py

        for score, values in scores.items():
            path = self.folder / "anomaly_p" / f"{self.method}-{score}" / dataset_name / f"{frame_id}.hdf5"
            with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
                file.create_dataset("value", data=values.astype(np.float16), compression=_GZIP_LEVEL)
