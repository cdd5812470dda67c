"""Tiny random networks, and the folder of reference outputs where there is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig

INFO = {
    "class_names": ["road", "pavement", "sky", "car", "tree"],
    "calibration": {"scale": 0.5, "shift": -1.0, "threshold": 0.3},
}


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("no folder shared/reference beside the checkout")
    return folder


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module, int], None]:
    """Fill every parameter so that none is neutral: layer scales, norms, biases and positions count too."""

    @torch.no_grad()
    def fill(module: nn.Module, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if any(part in name for part in ("pos", "token", "query", "q.weight")) and "proj" not in name:
                parameter.copy_(noise)
            elif parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                parameter.copy_(1.4 * noise / fan_in**0.5)
            elif name.endswith(("bias",)):
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(1.0 + 0.3 * noise)

    return fill


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., ModelConfig]:
    def make(**changes: Any) -> ModelConfig:
        settings: dict[str, Any] = {
            "backbone": "vit_small_patch14_reg4_dinov2",
            "crop_hw": (64, 96),
            "num_queries": 6,
            "num_classes": 5,
            "num_blocks": 2,
            "backbone_overrides": {"embed_dim": 32, "depth": 3, "num_heads": 2},
        }
        return ModelConfig(**{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_model(
    tiny_config: Callable[..., ModelConfig], randomise: Callable[[nn.Module, int], None]
) -> Callable[..., EoMTExt]:
    def make(head: HeadConfig | None = None, seed: int = 0, **changes: Any) -> EoMTExt:
        model = EoMTExt(tiny_config(**changes), head)
        randomise(model, seed)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def small_model(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    overrides = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    model = tiny_model(HeadConfig(16, 0.3, 8), num_blocks=1, backbone_overrides=overrides)
    model.info = dict(INFO)
    return model


@pytest.fixture(scope="session")
def onnx_file(small_model: EoMTExt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Head, rba and the semantic classes, for any number of windows; one for all tests, as exporting takes seconds."""
    pytest.importorskip("onnxruntime")
    from eomt_ext_core.export.export_config import ExportConfig  # slow to import
    from eomt_ext_core.export.exporting import export_model

    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    config = ExportConfig(scores=("head", "rba"), semantic=True)
    export_model(small_model, path, config, {"checkpoint_sha256": "5" * 64})
    return path


@pytest.fixture(params=[None, 8], ids=["plain", "projected"])
def head_config(request: pytest.FixtureRequest) -> HeadConfig:
    return HeadConfig(hidden_dim=16, feature_proj_dim=request.param)


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a random image, or labels of one value but for a square of another, making folders on the way."""

    def write(path: Path, size_hw: tuple[int, int] = (48, 64), labels: tuple[int, int] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if labels is None:
            array = np.random.default_rng(sum(map(ord, path.stem))).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        else:
            array = np.full(size_hw, labels[0], np.uint8)
            array[10:30, 20:45] = labels[1]
        assert cv2.imwrite(str(path), array)
        return path

    return write
