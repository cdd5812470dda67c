"""EoMT as lightly-train exports it, written from a network of ours into its names by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from eomt_ext_core import CheckpointError, ModelConfig, load_model
from eomt_ext_core.cli import app
from eomt_ext_core.model.eomt_ext import EoMTExt

Make = Callable[..., Any]
CLASSES = {0: "road", 3: "car", 7: "sky"}
SIZES = {"embed_dim": 32, "depth": 3, "num_heads": 2}
DINOV2 = ModelConfig(
    "vit_small_patch14_reg4_dinov2", (112, 112), patch_size=14, num_queries=5, num_classes=3, num_blocks=2,
    upscale_blocks=2, upscale_eps=1e-5, backbone_overrides=SIZES,
)  # fmt: skip
DINOV3 = ModelConfig(
    "vit_small_patch16_dinov3_qkvb", (96, 64), num_queries=5, num_classes=3, num_blocks=2, upscale_eps=1e-5,
    backbone_overrides=SIZES | {"reg_tokens": 4},
)  # fmt: skip
SETTINGS = {"model_name": "dinov3/vits16-eomt", "classes": CLASSES, "class_ignore_index": None, "num_queries": 5,
            "num_joint_blocks": 2, "image_normalize": {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}}  # fmt: skip


@pytest.fixture
def network(randomise: Make) -> Make:
    def make(config: ModelConfig) -> EoMTExt:
        model = EoMTExt(config).eval()
        randomise(model, 5)
        model.network.encoder.pixel_mean.copy_(torch.tensor((0.5, 0.4, 0.3)).view(1, 3, 1, 1))
        model.network.encoder.pixel_std.copy_(torch.tensor((0.2, 0.3, 0.4)).view(1, 3, 1, 1))
        return model

    return make


def exported(model: EoMTExt, **changes: Any) -> dict[str, Any]:
    """The content of a file, as public sources show it."""
    state = {f"model.{name}": value for name, value in weights(model).items()}
    height, width = model.config.crop_hw
    return {
        "model_class_path": "lightly_train._task_models.EoMT",
        "model_init_args": SETTINGS | {"image_size": (height, width)} | changes,
        "train_model": state | {"criterion.empty_weight": torch.ones(4)},
        "license_info": "",
    }


def weights(model: EoMTExt) -> dict[str, Tensor]:
    state, width = {}, model.network.encoder.embed_dim
    for key, value in model.network.state_dict().items():
        name = key.replace("encoder.backbone.", "backbone.").replace("q.weight", "queries.weight")
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        if not name.startswith("encoder.pixel") and "_bias" not in name:
            state[name] = value.clone()
    state["backbone.mask_token"] = torch.zeros(1, width)
    if not model.network.encoder.rotates:
        state["backbone.register_tokens"] = state.pop("backbone.reg_token")
        at_class = torch.full((1, 1, width), 0.25)  # of the position embedding, which has one for the class token too
        state["backbone.pos_embed"] = torch.cat((at_class, state["backbone.pos_embed"]), dim=1)
        state["backbone.cls_token"] -= at_class
        return state
    state["backbone.storage_tokens"] = state.pop("backbone.reg_token")
    heads = model.network.encoder.backbone.blocks[0].attn.num_heads
    per_head = width // heads // 4
    state["backbone.rope_embed.periods"] = (100 ** (torch.arange(per_head) / per_head)).bfloat16()
    for index, block in enumerate(model.network.encoder.backbone.blocks):
        name, nothing = f"backbone.blocks.{index}.attn.qkv.bias", torch.zeros(width)
        state[name] = torch.cat((block.attn.q_bias, nothing + 9, block.attn.v_bias)).detach()
        state[f"{name}_mask"] = torch.cat((nothing + 1, nothing, nothing + 1))
    return state


def save(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "exported_last.pt")
    return folder / "exported_last.pt"


@pytest.mark.parametrize(("config", "given"), [(DINOV2, {"num_heads": 2}), (DINOV3, {})])
@torch.no_grad()
def test_an_exported_model_computes_the_same(
    network: Make, image: Make, tmp_path: Path, config: ModelConfig, given: dict[str, int]
) -> None:
    model = network(config)
    path = save(exported(model), tmp_path)
    found = load_model(path, {"backbone_overrides": given} if given else None)
    assert (found.config.num_blocks, found.config.masked_attention) == (2, False)
    assert found.info["class_names"] == ["road", "car", "sky"]
    images = image(crop_hw=config.crop_hw)
    for value, expected in zip(found(images), model(images), strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)


def test_positions_fit_the_window_of_the_settings(network: Make, tmp_path: Path) -> None:
    path = save(exported(network(DINOV2), image_size=(84, 112)), tmp_path)
    assert load_model(path, {"backbone_overrides": {"num_heads": 2}}).config.crop_hw == (84, 112)


@pytest.mark.parametrize("size", [None, 5, (96,), ("96", 64)])
def test_a_window_that_the_settings_leave_open_is_given(network: Make, tmp_path: Path, size: Any) -> None:
    path = save(exported(network(DINOV3), image_size=size), tmp_path)
    with pytest.raises(CheckpointError, match="--crop"):
        load_model(path)
    assert load_model(path, {"crop_hw": (64, 64)}).config.crop_hw == (64, 64)


def test_arguments_of_another_tool_are_not_its_settings(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    model = tiny_model(crop_hw=(96, 96))
    state = official_state(model, probs=torch.ones(model.config.num_blocks))
    path = save({"state_dict": state, "model_init_args": {"dropout": float("nan")}}, tmp_path)
    with pytest.raises(CheckpointError, match="num-heads"):
        load_model(path)
    (tmp_path / "config.json").write_text('{"num_attention_heads": 2, "num_blocks": 2, "image_size": 96}')
    found = load_model(path).config
    assert (found.masked_attention, found.upscale_eps) == (True, ModelConfig.upscale_eps)
    assert found.backbone_overrides["num_heads"] == 2


def test_blocks_may_be_in_chunks(network: Make, tmp_path: Path) -> None:
    content = exported(network(DINOV3))
    content["train_model"] = {
        key.replace("blocks.", "blocks.0."): value for key, value in content["train_model"].items()
    }
    assert load_model(save(content, tmp_path)).config.backbone_overrides["depth"] == 3


def test_weights_alone_leave_the_settings_open(network: Make, tmp_path: Path) -> None:
    path = save(weights(network(DINOV3)), tmp_path)
    said = str(CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "m.safetensors")]).exception)
    assert "give --num-blocks --crop to `eomt-ext convert`" in said
    given = ["--num-blocks", "2", "--crop", "96", "64"]
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "m.safetensors"), *given])
    assert done.exit_code == 0, done.exception
    assert load_model(tmp_path / "m.safetensors").config.upscale_eps == 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.blocks.1.attn.qkv.bias_mask": torch.ones(96)}, "blocks.1.attn.k_bias is unexpected"),
        ({"backbone.blocks.1.attn.qkv.bias_mask": torch.ones(3)}, "and its mask must have one length"),
        ({"backbone.blocks.1.attn.qkv.bias_mask": torch.full((96,), torch.nan)}, "k_bias is unexpected|not finite"),
        ({"backbone.rope_embed.periods": torch.tensor([1.0, 2.0, 4.0, 8.0])}, "periods must be those of DINOv3"),
    ],
)
def test_what_the_network_does_not_compute_is_refused(
    network: Make, tmp_path: Path, change: dict[str, Tensor], message: str
) -> None:
    content = exported(network(DINOV3))
    content["train_model"] |= {f"model.{name}": value for name, value in change.items()}
    with pytest.raises(CheckpointError, match=message):
        load_model(save(content, tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_normalize": {"mean": (0.5,), "std": (0.5,)}}, "image_normalize must have mean and std of three"),
        ({"image_normalize": {"mean": (0.5,) * 3, "std": (0.5, 0.0, 0.5)}}, "positive std"),
        ({"image_size": (95, 64)}, "crop must be a positive multiple of the patch size 16, got 95"),
        ({"classes": {0: "road"}}, "class_names must be 3 texts"),
        ({"classes": {0: torch.zeros(1)}}, "model_init_args must be texts and numbers"),
        ({"num_joint_blocks": 9}, "num_blocks must be at most the depth 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    network: Make, tmp_path: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(save(exported(network(DINOV3), **setting), tmp_path))
