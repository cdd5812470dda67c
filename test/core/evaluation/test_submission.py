import sys

import numpy as np
import pytest

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.evaluation.submission import SubmissionWriter


def test_files_are_those_the_benchmark_reads(tmp_path):
    h5py = pytest.importorskip("h5py")
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    SubmissionWriter(tmp_path, "mine").write("AnomalyTrack-all", "validation0000", {"head": values, "rba": 1 - values})
    with h5py.File(tmp_path / "anomaly_p" / "mine-head" / "AnomalyTrack-all" / "validation0000.hdf5") as file:
        assert list(file) == ["value"]
        assert file["value"].dtype == np.float16
        np.testing.assert_array_equal(file["value"][:], values.astype(np.float16))
    assert (tmp_path / "anomaly_p" / "mine-rba" / "AnomalyTrack-all" / "validation0000.hdf5").is_file()


def test_without_h5py_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match="install the extra 'benchmark'"):
        SubmissionWriter(tmp_path, "mine")
