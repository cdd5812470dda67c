"""One exported file for all tests that only read it: exporting takes seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from eomt_ext_core import EoMTExt, HeadConfig
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model

INFO = {
    "class_names": ["road", "pavement", "sky", "car", "tree"],
    "calibration": {"scale": 0.5, "shift": -1.0, "threshold": 0.3},
}


@pytest.fixture(scope="session")
def small_model(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    model = tiny_model(HeadConfig(16, 0.3, 8), num_blocks=1, backbone_overrides=overrides)
    model.info = dict(INFO)
    return model


@pytest.fixture(scope="session")
def onnx_file(small_model: EoMTExt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Head, rba and the known classes, for any number of windows."""
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    config = ExportConfig(scores=("head", "rba"), semantic=True)
    export_model(small_model, path, config, {"checkpoint_sha256": "5" * 64})
    return path
