"""Files that hold something other than weights, or less than they say."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from eomt_ext_core import CheckpointError, load_model

Make = Callable[..., Any]
SQUARE = (96, 96)
HEADS = {"backbone_overrides": {"num_heads": 2}}


def test_a_tensor_that_repeats_its_only_number_is_refused(tmp_path: Path, refused: Make) -> None:
    torch.save({"q.weight": torch.zeros(1).expand(1 << 36)}, tmp_path / "m.bin")
    assert refused(tmp_path / "m.bin", "its tensors have 274877906944 bytes, but the file only") < 64
    views = {f"{number}.weight": torch.zeros(50_000) for number in range(1)}
    torch.save({f"{number}": views["0.weight"] for number in range(1000)}, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "its tensors have 200000000 bytes, but the file only")


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2, dtype=torch.complex64), torch.zeros(2).to(torch.float8_e4m3fn)],
    ids=["complex", "float8"],
)
def test_numbers_that_no_weights_are_made_of_are_refused(tmp_path: Path, value: torch.Tensor, refused: Make) -> None:
    path = tmp_path / ("m.bin" if value.is_complex() else "m.safetensors")
    torch.save({"q.weight": value}, path) if value.is_complex() else save_file({"q.weight": value}, path)
    refused(path, "q.weight must be a plain tensor of numbers")


def test_whole_numbers_are_no_weights(tiny_model: Make, official_state: Make, tmp_path: Path, refused: Make) -> None:
    state = official_state(tiny_model(crop_hw=SQUARE))
    state["network.q.weight"] = torch.ones(6, 32, dtype=torch.int64)
    torch.save(state, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", r"network\.q\.weight must hold floating-point numbers, got torch\.int64", HEADS)


def header(length: int, described: object, data: bytes = bytes(64)) -> bytes:
    content = json.dumps(described).encode()
    return struct.pack("<Q", length or len(content)) + content + data


@pytest.mark.parametrize(
    "content",
    [
        header(1 << 63, {}),
        header(1 << 40, {}),
        header(0, {"q.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        header(0, {"q.weight": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 64]}}),
        header(0, {"q.weight": {"dtype": "F32", "shape": [32], "data_offsets": [0, 64]}}),
        header(0, {"q.weight": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}),
        header(0, {"q.weight": {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]}}),
        header(0, {name: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for name in "ab"}),
        header(0, {"q.weight": {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]}}),
        header(0, {"__metadata__": {"eomt_ext": 1}, "q": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}),
        header(0, [1]),
    ],
    ids=[
        "length",
        "longer",
        "offsets",
        "product",
        "mismatch",
        "negative",
        "backwards",
        "overlap",
        "type",
        "text",
        "list",
    ],
)
def test_a_header_of_safetensors_that_lies_is_refused(tmp_path: Path, content: bytes, refused: Make) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    assert refused(tmp_path / "m.safetensors", r"m\.safetensors: ") < 64


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, refused: Make) -> None:
    os.mkfifo(tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "must be a regular file")


@pytest.mark.parametrize("name", ["m.bin", "m.safetensors"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path: Path, name: str, refused: Make) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1266\n")
    refused(tmp_path / name, "it is a pointer of Git LFS: fetch the file with `git lfs pull`")


def in_shards(folder: Path, state: dict[str, Any], shards: int = 3) -> dict[str, str]:
    """Write a state dict as Transformers does if it is large; gives the weight_map of the index."""
    keys = sorted(state)
    homes = {key: f"model-{index % shards + 1:05}-of-{shards:05}.safetensors" for index, key in enumerate(keys)}
    for name in set(homes.values()):
        save_file({key: state[key].contiguous() for key in keys if homes[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    return homes


def test_a_model_in_shards(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    model = tiny_model(crop_hw=SQUARE)
    in_shards(tmp_path, official_state(model))
    loaded = load_model(tmp_path, HEADS)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "must be JSON with a weight_map"),
        ("[" * 5000, "must be JSON with a weight_map"),
        ('{"weight_map": {"a": 3}}', "must name a file for each tensor"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "beside the index, got '../model.safetensors'"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "beside the index, got '/etc/passwd'"),
        ('{"weight_map": {"a": "model.bin"}}', "beside the index, got 'model.bin'"),
        ('{"weight_map": {"a": "none.safetensors"}}', "must be a regular file"),
        (
            json.dumps({"weight_map": {str(i): f"{i}.safetensors" for i in range(1001)}}),
            "at most 1000 shards, got 1001",
        ),
    ],
)
def test_an_index_that_lies(tmp_path: Path, index: str, message: str, refused: Make) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert refused(tmp_path, message) < 64


def test_a_shard_without_its_tensor(tiny_model: Make, official_state: Make, tmp_path: Path, refused: Make) -> None:
    state = official_state(tiny_model(crop_hw=SQUARE))
    homes = in_shards(tmp_path, state)
    key = sorted(homes)[0]
    save_file({"other": state[key]}, tmp_path / homes[key])
    refused(tmp_path, rf"{homes[key]} lacks {re.escape(key)}, which the index places there")


@pytest.mark.parametrize(
    "path", ["model", "state_dict", "model_state_dict", "module", "ema", "teacher", "checkpoint.state_dict.model"]
)
def test_containers(tiny_model: Make, official_state: Make, tmp_path: Path, path: str) -> None:
    model = tiny_model(crop_hw=SQUARE)
    content: Any = official_state(model, prefix="module._orig_mod.network.")
    for name in reversed([name for name in path.split(".") if name != "checkpoint"]):
        content = {name: content, "epoch": 3}
    torch.save(content, tmp_path / "m.pth")
    assert torch.equal(load_model(tmp_path / "m.pth", HEADS).network.q.weight, model.network.q.weight)


def test_of_several_networks_one_is_named(
    tiny_model: Make, official_state: Make, tmp_path: Path, refused: Make
) -> None:
    model = tiny_model(crop_hw=SQUARE)
    averaged = {key: value / 2 for key, value in official_state(model).items()}
    torch.save({"state_dict": official_state(model), "ema": averaged, "optimizer": {"step": 3}}, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "several networks, state_dict, ema: name one of them .*--weights ema")
    for name, factor in (("state_dict", 1), ("ema", 0.5)):
        loaded = load_model(tmp_path / "m.pth", HEADS, weights=name)
        assert torch.equal(loaded.network.q.weight, factor * model.network.q.weight)
    with pytest.raises(CheckpointError, match="it holds no 'teacher'"):
        load_model(tmp_path / "m.pth", HEADS, weights="teacher")


@pytest.mark.parametrize("legacy", [False, True])
def test_full_lightning_checkpoint_is_read(
    tiny_model: Make, official_state: Make, tmp_path: Path, legacy: bool
) -> None:
    model = tiny_model(crop_hw=SQUARE)
    learning = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(learning.parameters(), betas=(0.9, 0.95))
    learning(torch.ones(1, 300)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7])
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": official_state(model),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule.state_dict()],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": "runs"}},
        "hyper_parameters": {"lr": 1e-4, "img_size": (640, 640), "names": ["road"], "device": torch.device("cpu")},
        "module": learning.state_dict(),
    }
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=not legacy)
    loaded = load_model(tmp_path / "last.ckpt", HEADS)
    assert torch.equal(loaded.network.q.weight, model.network.q.weight)


def test_loaded_model_survives_overwriting_of_its_file(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    for name in ("m.bin", "m.safetensors"):
        path, state = tmp_path / name, official_state(tiny_model(crop_hw=SQUARE))
        torch.save(state, path) if name == "m.bin" else save_file(state, path)
        model = load_model(path, HEADS)
        before = model.network.q.weight.clone()
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        assert torch.equal(model.network.q.weight, before)
        assert all(not value.is_meta for value in model.state_dict().values())
