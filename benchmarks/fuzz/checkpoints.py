"""Checkpoints in all layouts and exported files, of a tiny model, mutated."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz.case import Case
from benchmarks.fuzz.mutations import mutate_bytes, mutate_json

PRELOAD = ("torch", "timm", "eomt_ext_core.engine", "eomt_ext_core.cli", "eomt_ext_core.runtimes.onnx_scorer")
FORBIDDEN_EVENTS = ("pickle.find_class",)

_CROP_HW = (32, 48)
_OVERRIDES = {"embed_dim": 16, "depth": 2, "num_heads": 2}
_OURS, _OFFICIAL, _LEGACY, _LIGHTNING = "ours.safetensors", "official.bin", "legacy.pth", "last.ckpt"
_TRANSFORMERS, _HEAD = "transformers/model.safetensors", "head.safetensors"
_SHARDS = "sharded/model.safetensors.index.json"  # of a DINOv3, with a preprocessor beside it
_FOLDERS = (_TRANSFORMERS, _SHARDS)
_EXPORTS = ("any.onnx", "two.onnx")
_SEEDS = (_OURS, _OFFICIAL, _LEGACY, _LIGHTNING, *_FOLDERS, _HEAD, *_EXPORTS)


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Intact files first, then mutated ones, of all layouts in turn."""
    intact = folder / "intact"
    write_seeds(intact)
    for number in range(count):
        chance = random.Random(f"{seed}.{number}")
        name = _SEEDS[number % len(_SEEDS)]
        target = folder / f"{number:04d}"
        target.mkdir()
        for part in (intact / name).parent.iterdir() if name in _FOLDERS else [intact / name]:
            shutil.copy2(part, target)
        how = "intact" if number < len(_SEEDS) else _mutate(target / Path(name).name, name, chance)
        expect = {"intact": "success", "cut": "error"}.get(how)
        yield Case(f"{number:04d} {name} {how}", target, _command(number, name, target, intact), expect)


def write_seeds(folder: Path) -> None:
    """Write an intact file of each layout."""
    import torch
    from safetensors.torch import save_file
    from transformers import (
        EomtConfig,
        EomtDinov3Config,
        EomtDinov3ForUniversalSegmentation,
        EomtForUniversalSegmentation,
    )  # fmt: skip

    from eomt_ext_core import EoMTExt, HeadConfig, ModelConfig, save_model
    from eomt_ext_core.export.export_config import ExportConfig
    from eomt_ext_core.export.exporting import export_model

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    config = ModelConfig("vit_small_patch14_reg4_dinov2", _CROP_HW, 16, 4, 3, 2, backbone_overrides=_OVERRIDES)
    model = EoMTExt(config, HeadConfig(16, 0.3, 8)).eval()
    model.info = {
        "class_names": ["road", "car", "sky"],
        "calibration": {"scale": 0.9, "shift": -0.2, "threshold": 0.4},
        "training": {"epochs": 3, "data": ["a", "b"]},
    }
    save_model(model, folder / _OURS)
    head = {f"anomaly_head.{key}": value for key, value in model.anomaly_head.state_dict().items()}
    save_file(head, folder / _HEAD)
    square = EoMTExt(ModelConfig("vit_small_patch14_reg4_dinov2", (32, 32), 16, 4, 3, 2, backbone_overrides=_OVERRIDES))
    state = {**square.state_dict(), "network.attn_mask_probs": torch.zeros(2)}
    torch.save(state, folder / _OFFICIAL)
    torch.save(state, folder / _LEGACY, _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3, "loops": {"fit": [1, 2]}}, folder / _LIGHTNING)
    described = EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, num_blocks=2, num_queries=4,
        num_labels=3,
    )  # fmt: skip
    EomtForUniversalSegmentation(described).save_pretrained(folder / Path(_TRANSFORMERS).parent)
    described = EomtDinov3Config(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, num_blocks=2,
        num_queries=4, num_labels=3,
    )  # fmt: skip
    sharded = folder / Path(_SHARDS).parent
    EomtDinov3ForUniversalSegmentation(described).save_pretrained(sharded, max_shard_size="20KB")
    normalisation = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "rescale_factor": 1 / 255}
    (sharded / "preprocessor_config.json").write_text(json.dumps(normalisation))
    origin = {"checkpoint_sha256": "5" * 64}
    export_model(model, folder / _EXPORTS[0], ExportConfig(scores=("head", "rba"), semantic=True), origin)
    export_model(model, folder / _EXPORTS[1], ExportConfig(scores=("head",), batch=2, score_stride=2), origin)


def infer(path: str, backend: str) -> None:
    """Load a file as an engine, as the node does, and let it see an image."""
    import numpy as np

    from eomt_ext_core import AnomalyEngine, EngineConfig

    score = "rba" if backend == "torch" else "head"
    config = EngineConfig(device="cpu", precision="fp32", backend=backend, score=score, threshold=0.5)
    engine = AnomalyEngine.load(path, config, download=False)
    json.dumps(engine.describe()).encode()  # as the diagnostics do
    frame = engine.infer(np.zeros((48, 80, 3), np.uint8))
    if not np.isfinite(frame.probability).all():
        raise AssertionError("a probability that is not finite")


def _command(number: int, name: str, target: Path, intact: Path) -> tuple[str, ...]:
    path = str(target if name in _FOLDERS else target / name)
    if name in _EXPORTS:
        return (f"{__name__}:infer", path, "onnxruntime")
    if name in (_OURS, *_FOLDERS) and number // len(_SEEDS) % 2:
        return (f"{__name__}:infer", path, "torch")
    converted = str(target / "converted.safetensors")
    if name == _HEAD:
        return ("eomt-ext", "convert", str(intact / _OURS), converted, "--head", path)
    heads = ("--num-heads", "2") if name in (_OFFICIAL, _LEGACY, _LIGHTNING) else ()
    return ("eomt-ext", "convert", path, converted, *heads)


def _mutate(path: Path, name: str, chance: random.Random) -> str:
    """Change a file in place; returns a description."""
    ways: list[Callable[[Path, random.Random], str]] = [_damage]
    if path.suffix == ".safetensors":
        ways += [_change_header] * 2
    if name == _OURS:
        ways += [_change_metadata] * 3
    elif name == _TRANSFORMERS:
        ways += [_change_config] * 3
    elif name == _SHARDS:
        ways = [_change_config, _change_index, _change_index, _change_shard, _change_preprocessor]
    elif name in (_OFFICIAL, _LIGHTNING):
        ways += [_change_archive, _change_pickle, _change_state]
    elif name in _EXPORTS:
        ways += [_change_export, _change_export, _change_graph]
    return chance.choice(ways)(path, chance)


def _damage(path: Path, chance: random.Random) -> str:
    how, data = mutate_bytes(path.read_bytes(), chance)
    path.write_bytes(data)
    return how


def _read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def _write_header(path: Path, header: Any, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _change_header(path: Path, chance: random.Random) -> str:
    header, data = _read_header(path)
    how, header = mutate_json(header, chance)
    _write_header(path, header, data)
    return f"header: {how}"


def _change_metadata(path: Path, chance: random.Random) -> str:
    header, data = _read_header(path)
    how, metadata = mutate_json(json.loads(header["__metadata__"]["eomt_ext"]), chance)
    header["__metadata__"]["eomt_ext"] = json.dumps(metadata)
    _write_header(path, header, data)
    return f"metadata: {how}"


def _change_config(path: Path, chance: random.Random) -> str:
    config = path.with_name("config.json")
    if chance.random() < 0.2:
        return f"config: {_damage(config, chance)}"
    stored = json.loads(config.read_text())
    key = chance.choice(("image_size", "num_blocks", "num_attention_heads", "layer_norm_eps", "hidden_act"))
    how, stored = mutate_json({key: stored.get(key)} if chance.random() < 0.5 else stored, chance)
    config.write_text(json.dumps(stored))
    return f"config: {how}"


def _change_index(path: Path, chance: random.Random) -> str:
    if chance.random() < 0.2:
        return f"index: {_damage(path, chance)}"
    how, stored = mutate_json(json.loads(path.read_text()), chance)
    path.write_text(json.dumps(stored))
    return f"index: {how}"


def _change_shard(path: Path, chance: random.Random) -> str:
    shard = chance.choice(sorted(path.parent.glob("*.safetensors")))
    if chance.random() < 0.2:
        shard.unlink()
        return "shard: missing"
    return f"shard: {chance.choice((_damage, _change_header))(shard, chance)}"


def _change_preprocessor(path: Path, chance: random.Random) -> str:
    file = path.with_name("preprocessor_config.json")
    how, stored = mutate_json(json.loads(file.read_text()), chance)
    file.write_text(json.dumps(stored))
    return f"preprocessor: {how}"


def _entries(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(item.filename, archive.read(item)) for item in archive.infolist()]


def _write_entries(path: Path, entries: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def _change_archive(path: Path, chance: random.Random) -> str:
    entries = _entries(path)
    how = chance.choice(("drop", "rename", "empty", "compress", "bomb", "shuffle"))
    index = chance.randrange(len(entries))
    if how == "drop":
        del entries[index]
    elif how == "rename":
        entries[index] = (entries[index][0] + chance.choice(("x", "/..", "\x01")), entries[index][1])
    elif how == "empty":
        entries[index] = (entries[index][0], b"")
    elif how == "bomb":
        entries[index] = (entries[index][0], bytes(700_000_000))
    elif how == "shuffle":
        chance.shuffle(entries)
    _write_entries(path, entries, zipfile.ZIP_DEFLATED if how in ("compress", "bomb") else zipfile.ZIP_STORED)
    return f"archive: {how}"


def _change_pickle(path: Path, chance: random.Random) -> str:
    entries = _entries(path)
    index = next(number for number, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    how, content = mutate_bytes(entries[index][1], chance)
    entries[index] = (entries[index][0], content)
    _write_entries(path, entries)
    return f"pickle: {how}"


def _change_state(path: Path, chance: random.Random) -> str:
    """Save it again with a tensor of another shape, type or kind."""
    import torch

    content = torch.load(path, weights_only=True)
    state = content.get("state_dict", content)
    key = chance.choice(list(state))
    value = state[key]
    changes: dict[str, Callable[[], Any]] = {
        "huge view": lambda: value.flatten()[:1].expand(1 << chance.choice((20, 34, 45))),
        "transposed": lambda: value.T.contiguous() if value.ndim == 2 else value[None],
        "empty": lambda: value[:0],
        "scalar": lambda: torch.zeros(()),
        "complex": lambda: value.to(torch.complex64),
        "whole": lambda: value.to(torch.int64),
        "nan": lambda: value * float("nan"),
        "sparse": lambda: value.to_sparse(),
        "meta": lambda: torch.empty(value.shape, device="meta"),
        "text": lambda: "x",
        "many": lambda: torch.zeros(*([1] * 60)),
    }
    how = chance.choice(list(changes))
    state[key] = changes[how]()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())
    return f"state: {how} {key}"


def _change_export(path: Path, chance: random.Random) -> str:
    import onnx

    model = onnx.load(path)
    entry = chance.choice([item for item in model.metadata_props if item.key.startswith("eomt_ext.")])
    how, value = mutate_json(json.loads(entry.value), chance)
    entry.value = json.dumps(value)
    path.write_bytes(model.SerializeToString())
    return f"{entry.key}: {how}"


def _change_graph(path: Path, chance: random.Random) -> str:
    import onnx

    model = onnx.load(path)
    tensor, node = chance.choice(model.graph.initializer), chance.choice(model.graph.node)
    how = chance.choice(("dims", "type", "operator", "input", "integer", "node", "external"))
    if how == "dims" and tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice((-1, 0, 1, 1 << 31, 1 << 62))
    elif how == "type":
        tensor.data_type = chance.randrange(24)
    elif how == "operator":
        node.op_type = chance.choice(("Loop", "ConstantOfShape", "Expand", "Tile", "Resize", "Nothing", ""))
    elif how == "input" and node.input:
        node.input[0] = chance.choice(("", "crops", chance.choice(model.graph.node).output[0]))
    elif how == "node":
        model.graph.node.remove(node)
    elif how == "external":
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    else:
        how = "integer"
        for attribute in node.attribute:
            attribute.i = chance.choice((-1, 0, 7, 1 << 40))
            attribute.ints[:] = [chance.choice((-1, 0, 3, 1 << 33)) for _ in attribute.ints]
    path.write_bytes(model.SerializeToString())
    return f"graph: {how} {node.op_type}"
