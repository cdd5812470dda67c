"""Models that exports treat differently: masked attention in half precision, DINOv3 in int8."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from eomt_ext_core import AnomalyEngine, EngineConfig, EoMTExt, HeadConfig, InferenceError, ModelConfig
from eomt_ext_core.export import check, exporting
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZES = {"embed_dim": 32, "depth": 1, "num_heads": 2}
IMAGE = np.random.default_rng(3).integers(0, 256, (80, 150, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def masked(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    return tiny_model(HeadConfig(16), seed=1, masked_attention=True, num_blocks=1, backbone_overrides=SIZES)


@pytest.fixture(scope="module")
def in_half_precision(masked: EoMTExt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masked") / "m.onnx"
    export_model(masked, path, ExportConfig(precision="fp16"))
    return path


def logits(model: EoMTExt | Path) -> torch.Tensor:
    config = EngineConfig("cpu", precision="fp32") if isinstance(model, EoMTExt) else EngineConfig("cpu")
    engine = AnomalyEngine(model, config) if isinstance(model, EoMTExt) else AnomalyEngine.load(model, config)
    return torch.from_numpy(engine.score_maps(IMAGE, ("head",))["head"])


def test_masked_attention_is_right_in_half_precision(masked: EoMTExt, in_half_precision: Path) -> None:
    expected, found = logits(masked), logits(in_half_precision)
    assert 0 < (found - expected).abs().max() <= 0.02 * expected.abs().max()
    plain = EoMTExt(ModelConfig(**{**vars(masked.config), "masked_attention": False}), HeadConfig(16)).eval()
    plain.load_state_dict(masked.state_dict())
    assert (logits(plain) - expected).abs().max() > 0.1 * expected.std(), "masks must matter here"


def test_masked_attention_that_differs_is_refused_with_a_layer(
    masked: EoMTExt, in_half_precision: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(check.TOLERANCE, "fp16", 1e-7)
    monkeypatch.setattr(
        exporting, "write_onnx", lambda program, contents, path, opset: path.write_bytes(in_half_precision.read_bytes())
    )
    with pytest.raises(InferenceError, match=r"differs from the engine in head .* first layer that differs is "):
        export_model(masked, tmp_path / "m.onnx", ExportConfig(precision="fp16"))
    assert list(tmp_path.iterdir()) == []


def test_a_dinov3_has_its_linear_layers_in_int8(randomise: Callable[..., None], tmp_path: Path) -> None:
    config = ModelConfig(
        "vit_small_patch16_dinov3_qkvb", (64, 96), num_queries=6, num_classes=5, num_blocks=1, backbone_overrides=SIZES
    )
    model = EoMTExt(config, HeadConfig(16)).eval()
    randomise(model, 1)
    images = [np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8) for seed in range(3)]
    export_model(model, tmp_path / "m.onnx", ExportConfig(precision="int8"), calibration=images)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node)
    assert kinds["QuantizeLinear"] == 4  # what qkv, proj, fc1 and fc2 read
    assert kinds["DequantizeLinear"] == 8  # that, and their weights
    expected, found = logits(model), logits(tmp_path / "m.onnx")
    assert 0 < (found - expected).square().mean().sqrt() < 0.2 * expected.std()
