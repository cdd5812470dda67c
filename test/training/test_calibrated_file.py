"""Calibration of an exported file; that of a checkpoint is in test_calibration.py."""

from pathlib import Path

import pytest
import torch
from eomt_ext_training.calibrate_command import calibrate

from eomt_ext_core import AnomalyEngine, ConfigError, EngineConfig, EoMTExt, HeadConfig, ModelConfig
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model

pytest.importorskip("onnxruntime")


def test_an_exported_file_is_calibrated_like_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(3)
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1.0}
    config = ModelConfig("vit_small_patch14_reg4_dinov2", (64, 96), num_queries=6, num_classes=5, num_blocks=1,
                         backbone_overrides=overrides)  # fmt: skip
    source, target = tmp_path / "exported.onnx", tmp_path / "calibrated.onnx"
    export_model(EoMTExt(config, HeadConfig(16, 0.3, 8)).eval(), source, ExportConfig())
    calibrate(str(source), "scenes:0:12", 0.9, None, target, None, "cpu")
    calibration = AnomalyEngine.load(target, EngineConfig(device="cpu")).calibrations["head"]
    assert calibration.scale > 0
    assert not AnomalyEngine.load(source, EngineConfig(device="cpu")).calibrations
    with pytest.raises(ConfigError, match=r"a calibrated exported file is saved as \.onnx: give --output"):
        calibrate(str(source), "scenes:0:12", 0.9, None, tmp_path / "calibrated.safetensors", None, "cpu")
    other = tmp_path / "other.onnx"
    with pytest.raises(ConfigError, match="an exported file gives no features: --normality needs the checkpoint"):
        calibrate(str(source), "scenes:0:12", 0.9, None, other, None, "cpu", normality=tmp_path / "n.safetensors")
