import pytest
import torch
from torch import Tensor

from eomt_ext_core.errors import CheckpointError
from eomt_ext_core.model.layouts import sort_weights

ONE = torch.ones(1)


def numbered(*shape: int) -> Tensor:
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


@pytest.mark.parametrize(
    "prefix",
    ["", "network.", "model.", "module.", "_orig_mod.", "_orig_mod.network.", "module.network.", "model.network.",
     "network._orig_mod.", "_orig_mod.module.model.network._orig_mod."],
)  # fmt: skip
def test_wrappers_are_taken_off(prefix: str) -> None:
    state = {
        f"{prefix}q.weight": ONE,
        f"{prefix}encoder.backbone.norm.weight": ONE,
        f"{prefix}attn_mask_probs": torch.zeros(4),
        f"{prefix}anomaly_head.mlp.0.weight": ONE,
        f"{prefix}anomaly_head.feature_proj.0.bias": ONE,
        "criterion.empty_weight": ONE,
    }
    weights = sort_weights(state)
    assert set(weights.network) == {"q.weight", "encoder.backbone.norm.weight"}
    assert set(weights.head) == {"mlp.0.weight", "feature_proj.0.bias"}
    assert weights.attn_mask_probs is not None
    assert weights.attn_mask_probs.shape == (4,)


@pytest.mark.parametrize("prefix", ["", "anomaly_head.", "network.anomaly_head.", "module."])
def test_a_separate_head(prefix: str) -> None:
    weights = sort_weights({f"{prefix}mlp.0.weight": ONE, f"{prefix}feature_proj.0.weight": ONE})
    assert weights.network == {}
    assert set(weights.head) == {"mlp.0.weight", "feature_proj.0.weight"}


def test_unknown_keys_keep_their_names() -> None:
    weights = sort_weights({"q.weight": ONE, "ema.q.weight": ONE, "layer1.0.conv1.weight": ONE})
    assert set(weights.network) == {"q.weight", "ema.q.weight", "layer1.0.conv1.weight"}
    assert weights.head == {}


def test_a_second_network_does_not_overwrite_the_first() -> None:
    weights = sort_weights({"network.q.weight": ONE, "model.q.weight": 2 * ONE})
    assert weights.network == {"q.weight": ONE, "model.q.weight": 2 * ONE}


def test_query_key_and_value_are_joined_in_that_order() -> None:
    state = {
        "layers.3.attention.v_proj.weight": numbered(2, 2) + 200,
        "layers.3.attention.q_proj.weight": numbered(2, 2),
        "layers.3.attention.k_proj.weight": numbered(2, 2) + 100,
        "layers.3.mlp.up_proj.bias": numbered(2) + 10,
        "layers.3.mlp.gate_proj.bias": numbered(2),
        "layers.3.mlp.down_proj.bias": numbered(3),
    }
    network = sort_weights(state).network
    block = "encoder.backbone.blocks.3"
    assert set(network) == {f"{block}.attn.qkv.weight", f"{block}.mlp.fc1.bias", f"{block}.mlp.fc2.bias"}
    assert network[f"{block}.attn.qkv.weight"][:, 0].tolist() == [0, 2, 100, 102, 200, 202]
    assert network[f"{block}.mlp.fc1.bias"].tolist() == [0, 1, 10, 11]


def test_each_name_of_transformers_has_its_official_one() -> None:
    block, named = "encoder.backbone.blocks.1", "layers.1"
    pairs = {
        "embeddings.cls_token": "encoder.backbone.cls_token",
        "embeddings.register_tokens": "encoder.backbone.reg_token",
        "embeddings.patch_embeddings.projection.weight": "encoder.backbone.patch_embed.proj.weight",
        f"{named}.norm1.weight": f"{block}.norm1.weight",
        f"{named}.norm2.bias": f"{block}.norm2.bias",
        f"{named}.attention.out_proj.bias": f"{block}.attn.proj.bias",
        f"{named}.layer_scale2.lambda1": f"{block}.ls2.gamma",
        f"{named}.mlp.fc1.weight": f"{block}.mlp.fc1.weight",
        f"{named}.mlp.fc2.bias": f"{block}.mlp.fc2.bias",
        "layernorm.weight": "encoder.backbone.norm.weight",
        "query.weight": "q.weight",
        "class_predictor.bias": "class_head.bias",
        "mask_head.fc1.weight": "mask_head.0.weight",
        "mask_head.fc2.weight": "mask_head.2.weight",
        "mask_head.fc3.bias": "mask_head.4.bias",
        "upscale_block.block.1.conv1.bias": "upscale.1.conv1.bias",
        "upscale_block.block.0.conv2.weight": "upscale.0.conv2.weight",
        "upscale_block.block.1.layernorm2d.weight": "upscale.1.norm.weight",
    }
    assert set(sort_weights(dict.fromkeys(pairs, ONE)).network) == set(pairs.values())


def test_positions_get_their_batch_dimension() -> None:
    network = sort_weights({"embeddings.position_embeddings.weight": numbered(4, 3)}).network
    assert network["encoder.backbone.pos_embed"].shape == (1, 4, 3)


def test_parts_of_different_shapes_are_refused() -> None:
    state = {
        f"layers.0.attention.{part}_proj.weight": numbered(2, size) for part, size in zip("qkv", (2, 2, 3), strict=True)
    }
    with pytest.raises(CheckpointError, match=r"layers\.0\.attention.*must have one shape, got .*\(2, 3\)"):
        sort_weights(state)


def test_an_incomplete_trio_keeps_its_names() -> None:
    state = {"layers.0.attention.q_proj.weight": ONE, "layers.0.attention.k_proj.weight": ONE}
    assert sort_weights(state).network == state


@pytest.mark.parametrize(
    ("first", "second", "also"),
    [
        ("layernorm.weight", "encoder.backbone.norm.weight", "embeddings.cls_token"),
        ("layers.0.mlp.weights_out.bias", "layers.0.mlp.down_proj.bias", "embeddings.cls_token"),
        ("layers.0.mlp.weights_in.bias", "layers.0.mlp.gate_proj.bias", "embeddings.cls_token"),
        ("layers.0.mlp.gate_proj.bias", "layers.0.mlp.weights_in.bias", "embeddings.cls_token"),
        ("layernorm.weight", "norm.weight", "embeddings.patch_embeddings.weight"),
        ("layer.0.attention.q_proj.weight", "layers.0.attention.q_proj.weight", "embeddings.patch_embeddings.weight"),
        ("backbone.blocks.0.1.norm1.weight", "backbone.blocks.1.norm1.weight", "queries.weight"),
        ("queries.weight", "q.weight", "backbone.cls_token"),
        ("backbone.blocks.1.attn.qkv.bias", "backbone.blocks.1.attn.v_bias", "queries.weight"),
    ],
)
def test_a_tensor_that_is_there_twice_is_refused(first: str, second: str, also: str) -> None:
    twice = torch.ones(3)
    with pytest.raises(CheckpointError, match=f"once, but {first} and {second} are both "):
        sort_weights({also: ONE, first: twice, second: twice})
