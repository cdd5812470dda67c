"""Checkpoints that mean harm: none reaches timm, the network or another file, and none takes more than it holds."""

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from eomt_ext_core import save_model

Make = Callable[..., Any]
MIB = 1 << 20
SQUARE = (96, 96)
HEADS = {"backbone_overrides": {"num_heads": 2}}
WATCHED = ("socket.", "urllib.", "http.", "pickle.", "subprocess.", "os.system", "open")
_seen: list[tuple[str, Any]] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event.startswith(WATCHED):
        _seen.append((event, arguments[0] if arguments else None))


sys.addaudithook(_hook)


@pytest.fixture
def events() -> Iterator[list[tuple[str, Any]]]:
    """What happens in this process meanwhile: requests, files that are opened, pickles that are read."""
    global _seen
    _seen = []
    yield _seen
    _seen = None


def opened(events: list[tuple[str, Any]]) -> set[str]:
    """The files, but for those that the memory is read from."""
    names = {str(name) for event, name in events if event == "open"}
    return {name for name in names if not name.startswith("/proc/self/")}


@pytest.fixture
def with_model(tiny_model: Make, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """A file of ours whose metadata says something else of the model."""

    def make(changes: dict[str, Any]) -> Path:
        path = tmp_path / "m.safetensors"
        save_model(tiny_model(), path)
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["eomt_ext"])
        metadata["model"] |= changes
        save_file(tiny_model().state_dict(), path, metadata={"eomt_ext": json.dumps(metadata)})
        return path

    return make


# What reaches timm


@pytest.mark.parametrize(
    "backbone",
    [
        "hf-hub:someone/anything",
        "hf_hub:someone/anything",
        "local-dir:/etc",
        "vit_small_patch14_reg4_dinov2.lvd142m",
        "vit_small_patch14_dinov2",
        "resnet18",
        "",
        None,
        7,
        ["vit_small_patch14_reg4_dinov2"],
        {"name": "resnet18"},
    ],
)
def test_no_name_but_the_allowed_ones_reaches_timm(
    with_model: Make,
    events: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    backbone: object,
    refused: Make,
) -> None:
    path = with_model({"backbone": backbone})
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it reached timm"))
    events.clear()
    refused(path, r"m\.safetensors: backbone must be one of vit_small_patch14_reg4_dinov2, .*, got ")
    assert not [event for event in events if event[0] != "open"]
    assert opened(events) <= {str(path)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "checkpoint_path",
            "{secret}",
            "must be some of embed_dim, depth, num_heads, mlp_ratio, reg_tokens, init_values, norm_eps, got 'chec",
        ),
        ("pretrained", True, "must be some of"),
        ("pretrained_cfg", {"url": "http://192.0.2.1/x"}, "must be some of"),
        ("pretrained_cfg_overlay", {"file": "{secret}"}, "must be some of"),
        ("cache_dir", "{folder}", "must be some of"),
        ("features_only", True, "must be some of"),
        ("weight_init", "jax", "must be some of"),
        ("embed_dim", 1 << 40, "embed_dim must be from 1 to 16384, got 1099511627776"),
        ("embed_dim", True, "embed_dim must be of type int, got True"),
        ("embed_dim", "32", "embed_dim must be of type int, got '32'"),
        ("depth", 10**9, "depth must be from 1 to 1024, got 1000000000"),
        ("num_heads", 0, "num_heads must be from 1 to 1024, got 0"),
        ("num_heads", 2.0, "num_heads must be of type int, got 2.0"),
        ("mlp_ratio", 1e9, "mlp_ratio must be from 0.01 to 64.0, got 1000000000.0"),
        ("mlp_ratio", None, "mlp_ratio must be of type float, got None"),
        ("reg_tokens", -1, "reg_tokens must be from 0 to 1024, got -1"),
    ],
)
def test_no_argument_but_the_allowed_sizes_reaches_timm(
    with_model: Make, events: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, value: object, message: str,
 refused: Make,
) -> None:  # fmt: skip
    marker, secret = tmp_path / "executed", tmp_path / "secret.pth"
    secret.write_bytes(pickle.dumps(Payload(f"touch '{marker}'")))
    if isinstance(value, str):
        value = value.format(secret=secret, folder=tmp_path)
    path = with_model({"backbone_overrides": {"embed_dim": 32, "depth": 3, "num_heads": 2, name: value}})
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it reached timm"))
    events.clear()
    refused(path, rf"m\.safetensors: backbone_overrides .*{message}")
    assert opened(events) <= {str(path)}
    assert not [event for event in events if event[0] != "open"]
    assert not marker.exists()


@pytest.mark.parametrize("overrides", [[["depth", 3]], "depth", 3, None])
def test_overrides_that_are_no_mapping_are_refused(with_model: Make, overrides: object, refused: Make) -> None:
    refused(with_model({"backbone_overrides": overrides}), "backbone_overrides must be a mapping .* got ")


class Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


# Sizes, before memory


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_hw": [32768, 32768]}, "crop must be at most 8388608 pixels, got 32768×32768"),
        ({"crop_hw": [2048, 4096]}, "window of 4096×2048 pixels has 32768 patches of 16, but .* holds 24"),
        ({"crop_hw": [96, 64], "patch_size": 32}, "patch_size is 16 in the weights, but 32"),
        ({"crop_hw": "wide"}, "crop_hw must be two whole numbers, height and width, got"),
        ({"crop_hw": [64.0, 96.0]}, "crop_hw must be two whole numbers, height and width, got"),
        ({"masked_attention": "yes"}, "masked_attention must be true or false, got 'yes'"),
        ({"num_blocks": 10**9}, "num_blocks must be at most the depth 3"),
        ({"num_blocks": "2"}, "num_blocks must be of type int"),
        ({"anything": 1}, "no field anything"),
        (
            {"backbone": "vit_giant_patch14_reg4_dinov2", "backbone_overrides": {}},
            r"network\.encoder\.backbone\.pos_embed must have shape \(1, 24, 1536\), got \(1, 24, 32\)",
        ),
    ],
)
def test_sizes_are_compared_before_anything_is_made(
    with_model: Make, changes: dict[str, Any], message: str, refused: Make
) -> None:
    path = with_model(changes)
    assert refused(path, rf"m\.safetensors: .*{message}") < 64


def test_a_configuration_of_transformers_is_held_to_its_weights(
    tiny_model: Make, tmp_path: Path, refused: Make
) -> None:
    state = tiny_model(crop_hw=SQUARE).network.state_dict()
    state["embeddings.cls_token"] = state.pop("encoder.backbone.cls_token")
    save_file(state, tmp_path / "model.safetensors")
    described = {"num_attention_heads": 2, "num_blocks": 2}
    for size, message in ((2048, "2048×2048 pixels has 16384 patches .* holds 36"), (32768, "at most 8388608 pixels")):
        (tmp_path / "config.json").write_text(json.dumps({**described, "image_size": size}))
        assert refused(tmp_path, message) < 64


def test_an_index_of_a_block_is_no_depth(tiny_model: Make, official_state: Make, tmp_path: Path, refused: Make) -> None:
    for index, message in ((9999, "depth must be from 1 to 1024, got 10000"), ("9" * 5000, "do not fit: .*999…$")):
        state = official_state(tiny_model(crop_hw=SQUARE))
        state[f"network.encoder.backbone.blocks.{index}.norm1.weight"] = torch.ones(32)
        torch.save(state, tmp_path / "m.bin")
        refused(tmp_path / "m.bin", message, HEADS)


@pytest.mark.parametrize("key", ["q.weight", "class_head.weight", "encoder.backbone.patch_embed.proj.weight"])
def test_a_size_of_nothing_is_named(
    tiny_model: Make, official_state: Make, tmp_path: Path, key: str, refused: Make
) -> None:
    state = official_state(tiny_model(crop_hw=SQUARE))
    state[f"network.{key}"] = state[f"network.{key}"][..., :0] if "patch" in key else state[f"network.{key}"][:0]
    torch.save(state, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "must be at least 1, got", HEADS)
