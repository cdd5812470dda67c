from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_ext_core import CheckpointError, EoMT, EoMTExt, HeadConfig, ModelConfig
from eomt_ext_core.model.architecture import infer_head_config, infer_model_config
from eomt_ext_core.scoring.anomaly_head import PixelAnomalyHead

OFF = torch.zeros(2)
HEADS = {"backbone_overrides": {"num_heads": 2}}


@pytest.fixture(scope="module")
def shapes() -> dict[str, Tensor]:
    """State dict of a tiny square network; its numbers do not matter."""
    overrides = {"embed_dim": 32, "depth": 3, "num_heads": 2}
    config = ModelConfig(
        "vit_small_patch14_reg4_dinov2",
        (96, 96),
        num_queries=6,
        num_classes=5,
        backbone_overrides=overrides,
        num_blocks=2,
    )
    return EoMT(config).state_dict()


@pytest.mark.parametrize("size", ["small", "base", "large", "giant"])
def test_published_backbones_are_recognised_by_their_shapes(size: str) -> None:
    config = ModelConfig(f"vit_{size}_patch14_reg4_dinov2", (64, 64))
    with torch.device("meta"):
        state = EoMT(config).state_dict()
    assert infer_model_config(state, torch.zeros(4), {}) == config


def test_a_published_backbone_with_other_heads_is_another() -> None:
    with torch.device("meta"):
        state = EoMT(ModelConfig("vit_base_patch14_reg4_dinov2", (64, 64))).state_dict()
    usual = infer_model_config(state, torch.zeros(4), {"backbone_overrides": {"num_heads": 12}})
    assert usual == ModelConfig("vit_base_patch14_reg4_dinov2", (64, 64))
    other = infer_model_config(state, torch.zeros(4), {"backbone_overrides": {"num_heads": 8}})
    assert other.backbone_overrides == {"embed_dim": 768, "depth": 12, "mlp_ratio": 4.0, "num_heads": 8}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone_overrides": {"embed_dim": 48, "depth": 2, "num_heads": 3, "mlp_ratio": 2.7}},
        {"backbone_overrides": {"embed_dim": 48, "depth": 2, "num_heads": 3, "reg_tokens": 0}},
        {"backbone_overrides": {"embed_dim": 48, "depth": 2, "num_heads": 3, "reg_tokens": 2}},
        {"backbone": "vit_giant_patch14_reg4_dinov2"},
        {"patch_size": 8, "crop_hw": (48, 48)},
        {"num_queries": 1, "num_classes": 1, "num_blocks": 1},
    ],
)
def test_every_shape_is_read_back(tiny_config: Callable[..., ModelConfig], changes: dict[str, Any]) -> None:
    config = tiny_config(**{"crop_hw": (96, 96), **changes})
    state = EoMT(config).state_dict()
    heads = {"num_heads": config.backbone_overrides["num_heads"]}
    found = infer_model_config(state, torch.zeros(config.num_blocks), {"backbone_overrides": heads})
    rebuilt = EoMT(found).state_dict()
    assert {key: value.shape for key, value in rebuilt.items()} == {key: value.shape for key, value in state.items()}
    assert (found.crop_hw, found.patch_size, found.num_blocks) == (config.crop_hw, config.patch_size, config.num_blocks)


@pytest.mark.parametrize(
    ("probs", "known", "message"),
    [
        (OFF, {}, r"number of attention heads: give backbone_overrides\['num_heads'\]"),
        (None, HEADS, "do not determine num_blocks"),
        (torch.tensor([0.0, 0.3]), HEADS, r"being annealed .*\[0\.0, 0\.3.* give masked_attention"),
        (torch.tensor([0.0, 1.0]), HEADS, "give masked_attention"),
        (OFF, HEADS | {"num_queries": 7}, "num_queries is 6 in the weights, but 7 in the configuration"),
        (OFF, HEADS | {"num_classes": 19}, "num_classes is 5 in the weights, but 19"),
        (OFF, HEADS | {"patch_size": 8}, "patch_size is 16 in the weights, but 8"),
        (OFF, HEADS | {"num_blocks": 3}, "num_blocks is 2 in the weights, but 3"),
        (OFF, {"backbone_overrides": {"num_heads": 2, "depth": 4}}, r"\['depth'\] is 3 in the weights, but 4"),
        (OFF, {"backbone_overrides": {"num_heads": 2, "embed_dim": 64}}, r"\['embed_dim'\] is 32 in the weights"),
        (OFF, HEADS | {"crop": (64, 64)}, "no field crop"),
    ],
)
def test_what_is_open_or_contradicts_is_named(
    shapes: dict[str, Tensor], probs: Tensor | None, known: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        infer_model_config(shapes, probs, known)


def test_a_window_that_is_not_square_must_be_given(tiny_config: Callable[..., ModelConfig]) -> None:
    state = EoMT(tiny_config(crop_hw=(64, 96))).state_dict()
    for known in (HEADS, {**HEADS, "crop_hw": (64, 96)}):
        with pytest.raises(CheckpointError, match="24 patches is not square: give trained_crop_hw"):
            infer_model_config(state, OFF, known)
    found = infer_model_config(state, OFF, {**HEADS, "trained_crop_hw": (64, 96)})
    assert (found.crop_hw, found.trained_crop_hw) == ((64, 96), None)


@pytest.mark.parametrize(
    ("probs", "known", "expected"),
    [
        (torch.zeros(2), {}, False),
        (torch.ones(2), {}, True),
        (torch.ones(2), {"masked_attention": False}, False),
        (torch.tensor([0.0, 0.3]), {"masked_attention": True}, True),
        (None, {"num_blocks": 2}, False),
    ],
)
def test_masked_attention(
    shapes: dict[str, Tensor], probs: Tensor | None, known: dict[str, Any], expected: bool
) -> None:
    assert infer_model_config(shapes, probs, HEADS | known).masked_attention is expected


@pytest.mark.parametrize(
    "key",
    ["encoder.backbone.pos_embed", "encoder.backbone.patch_embed.proj.weight", "q.weight", "class_head.weight",
     "encoder.backbone.blocks.0.mlp.fc1.weight", "encoder.backbone.reg_token"],
)  # fmt: skip
def test_a_tensor_of_other_dimensions_is_named(shapes: dict[str, Tensor], key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{key.replace('.', '[.]')} must have \d dimensions, got shape \(4,\)"):
        infer_model_config(shapes | {key: torch.zeros(4)}, OFF, HEADS)


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_one_position_embedding(shapes: dict[str, Tensor], count: int) -> None:
    with pytest.raises(CheckpointError, match=rf"pos_embed must have shape \(1, N, C\), got \({count}, 36, 32\)"):
        infer_model_config(shapes | {"encoder.backbone.pos_embed": torch.zeros(count, 36, 32)}, OFF, HEADS)


def test_a_foreign_state_dict_is_called_foreign() -> None:
    with pytest.raises(CheckpointError, match=r"not the weights of an EoMT.*not found among conv1\.weight, fc\.bias"):
        infer_model_config({"conv1.weight": OFF, "fc.bias": OFF}, None, {})


def test_the_head_is_read_off_its_weights(head_config: HeadConfig) -> None:
    state = PixelAnomalyHead(32, head_config).state_dict()
    assert infer_head_config(state, 32) == HeadConfig(16, 0.3, head_config.feature_proj_dim)


def test_a_head_of_another_backbone_is_refused(head_config: HeadConfig) -> None:
    state = PixelAnomalyHead(48, head_config).state_dict()
    with pytest.raises(CheckpointError, match="takes 48 visual features, but the network gives 32"):
        infer_head_config(state, 32)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"mlp.3.weight": OFF}, "must hold a matrix 'mlp.0.weight', found mlp.3.weight"),
        ({"mlp.0.weight": OFF}, "must hold a matrix 'mlp.0.weight'"),
        ({"mlp.0.weight": torch.zeros(8, 12), "feature_proj.0.weight": OFF}, r"a convolution's .* got shape \(2,\)"),
    ],
)
def test_a_head_that_is_none_is_named(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        infer_head_config(state, 32)


def test_the_model_has_a_head_only_where_one_is_configured(tiny_config: Callable[..., ModelConfig]) -> None:
    assert EoMTExt(tiny_config()).anomaly_head is None
    assert EoMTExt(tiny_config(), HeadConfig()).anomaly_head is not None
