from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_ext_core.config import ALL_SCORES, EngineConfig, HeadConfig, ModelConfig, WindowConfig
from eomt_ext_core.errors import ConfigError, EomtExtError

BACKBONE = "vit_small_patch14_reg4_dinov2"


def test_defaults_are_those_of_the_reference() -> None:
    assert (HeadConfig().hidden_dim, HeadConfig().dropout) == (256, 0.3)
    model = ModelConfig(BACKBONE, (640, 640))
    assert (model.patch_size, model.num_blocks, model.masked_attention) == (16, 4, False)
    engine = EngineConfig()
    assert engine.score == "head"
    assert (engine.windows.mode, engine.windows.blend) == ("eomt", "uniform")


@pytest.mark.parametrize("config", [HeadConfig, WindowConfig, EngineConfig])
def test_every_setting_describes_itself(config: Any) -> None:
    for item in fields(config):
        assert item.name == "windows" or item.metadata["doc"], item.name


def test_configs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        EngineConfig().threshold = 0.7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EngineConfig(threshold=1.5), "threshold must be at most 1.0, got 1.5"),
        (lambda: EngineConfig(threshold=float("nan")), "threshold must be at least"),
        (lambda: EngineConfig(score="mps"), f"score must be one of {', '.join(ALL_SCORES)}, got 'mps'"),
        (lambda: EngineConfig(precision="fp64"), "precision must be one of auto, fp32, bf16, fp16, got 'fp64'"),
        (lambda: EngineConfig(batch_windows=0), "batch_windows must be at least 1, got 0"),
        (lambda: EngineConfig(batch_windows=2.5), "batch_windows must be of type int, got 2.5"),  # type: ignore[arg-type]
        (lambda: EngineConfig(threshold="high"), "threshold must be of type float, got 'high'"),  # type: ignore[arg-type]
        (lambda: EngineConfig(max_windows=True), "max_windows must be of type int, got True"),
        (lambda: WindowConfig(mode="tiles"), "mode must be one of eomt, grid, fovea, got 'tiles'"),
        (lambda: WindowConfig(overlap=0.95), "overlap must be at most 0.9, got 0.95"),
        (lambda: WindowConfig(scale=0.0), "scale must be at least 0.05, got 0.0"),
        (lambda: HeadConfig(hidden_dim=1), "hidden_dim must be at least 2, got 1"),
        (lambda: HeadConfig(feature_proj_dim=0), "feature_proj_dim must be at least 1, or None for none, got 0"),
        (lambda: ModelConfig(BACKBONE, (640, 640), num_queries=0), "num_queries must be at least 1, got 0"),
        (lambda: ModelConfig(BACKBONE, (650, 640)), "multiple of the patch size 16, got 650; the nearest is 656"),
        (lambda: ModelConfig(BACKBONE, (640, 0)), "multiple of the patch size 16, got 0; the nearest is 16"),
        (lambda: ModelConfig(BACKBONE, 640), "crop_hw must be two whole numbers, height and width, got 640"),  # type: ignore[arg-type]
        (lambda: ModelConfig(BACKBONE, (640, 640, 3)), "crop_hw must be two whole numbers"),  # type: ignore[arg-type]
        (lambda: ModelConfig(BACKBONE, (640.5, 640)), "crop_hw must be two whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_a_broken_rule_is_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)
    assert isinstance(caught.value, EomtExtError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_that_are_taken(device: str) -> None:
    assert EngineConfig(device=device).device == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cpu:", "auto:1", "cuda:1 "])
def test_devices_that_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N"):
        EngineConfig(device=device)


@given(rows=st.integers(1, 90), columns=st.integers(1, 90), patch=st.sampled_from([4, 8, 16, 32]))
def test_grid_is_the_crop_in_patches(rows: int, columns: int, patch: int) -> None:
    config = ModelConfig(BACKBONE, (rows * patch, columns * patch), patch_size=patch)
    assert config.grid_hw == (rows, columns)


def test_model_config_keeps_its_own_overrides() -> None:
    overrides = {"num_heads": 3}
    config = ModelConfig(BACKBONE, [64, 96], backbone_overrides=overrides)  # type: ignore[arg-type]
    overrides["num_heads"] = 4
    assert config.backbone_overrides == {"num_heads": 3}
    assert config.crop_hw == (64, 96)
