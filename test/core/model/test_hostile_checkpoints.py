"""Checkpoints that mean harm: none reaches timm, the network or another file, and none takes more than it holds."""

import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from eomt_ext_core import CheckpointError, load_model, save_model

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


def peak_mib(action: Callable[[], None]) -> float:
    """How far resident memory grows at its peak."""
    Path("/proc/self/clear_refs").write_text("5")

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))

    before = status("VmRSS")
    action()
    return (status("VmHWM") - before) / 1024


def refused(path: Path, message: str, known: dict[str, Any] | None = None) -> Callable[[], None]:
    def load() -> None:
        with pytest.raises(CheckpointError, match=message):
            load_model(path, known)

    return load


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
    with_model: Make, events: list[Any], monkeypatch: pytest.MonkeyPatch, backbone: object
) -> None:
    path = with_model({"backbone": backbone})
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it reached timm"))
    events.clear()
    refused(path, r"m\.safetensors: backbone must be one of vit_small_patch14_reg4_dinov2, .*, got ")()
    assert not [event for event in events if event[0] != "open"]
    assert {str(name) for event, name in events if event == "open"} <= {str(path)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "checkpoint_path",
            "{secret}",
            "must be some of embed_dim, depth, num_heads, mlp_ratio, reg_tokens, got 'chec",
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
) -> None:  # fmt: skip
    marker, secret = tmp_path / "executed", tmp_path / "secret.pth"
    secret.write_bytes(pickle.dumps(Payload(f"touch '{marker}'")))
    if isinstance(value, str):
        value = value.format(secret=secret, folder=tmp_path)
    path = with_model({"backbone_overrides": {"embed_dim": 32, "depth": 3, "num_heads": 2, name: value}})
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it reached timm"))
    events.clear()
    refused(path, rf"m\.safetensors: backbone_overrides .*{message}")()
    assert {str(opened) for event, opened in events if event == "open"} <= {str(path)}
    assert not [event for event in events if event[0] != "open"]
    assert not marker.exists()


@pytest.mark.parametrize("overrides", [[["depth", 3]], "depth", 3, None])
def test_overrides_that_are_no_mapping_are_refused(with_model: Make, overrides: object) -> None:
    refused(with_model({"backbone_overrides": overrides}), "backbone_overrides must be a mapping .* got ")()


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
        ({"crop_hw": "wide"}, "trained_crop_hw must be two whole numbers"),
        ({"crop_hw": [64.0, 96.0]}, "trained_crop_hw must be two whole numbers"),
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
def test_sizes_are_compared_before_anything_is_made(with_model: Make, changes: dict[str, Any], message: str) -> None:
    path = with_model(changes)
    assert peak_mib(refused(path, rf"m\.safetensors: .*{message}")) < 64


def test_a_configuration_of_transformers_is_held_to_its_weights(tiny_model: Make, tmp_path: Path) -> None:
    state = tiny_model(crop_hw=SQUARE).network.state_dict()
    state["embeddings.cls_token"] = state.pop("encoder.backbone.cls_token")
    save_file(state, tmp_path / "model.safetensors")
    described = {"num_attention_heads": 2, "num_blocks": 2}
    for size, message in ((2048, "2048×2048 pixels has 16384 patches .* holds 36"), (32768, "at most 8388608 pixels")):
        (tmp_path / "config.json").write_text(json.dumps({**described, "image_size": size}))
        assert peak_mib(refused(tmp_path, message)) < 64


def test_an_index_of_a_block_is_no_depth(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    for index, message in ((9999, "depth must be from 1 to 1024, got 10000"), ("9" * 5000, "do not fit: .*999…$")):
        state = official_state(tiny_model(crop_hw=SQUARE))
        state[f"network.encoder.backbone.blocks.{index}.norm1.weight"] = torch.ones(32)
        torch.save(state, tmp_path / "m.bin")
        refused(tmp_path / "m.bin", message, HEADS)()


@pytest.mark.parametrize("key", ["q.weight", "class_head.weight", "encoder.backbone.patch_embed.proj.weight"])
def test_a_size_of_nothing_is_named(tiny_model: Make, official_state: Make, tmp_path: Path, key: str) -> None:
    state = official_state(tiny_model(crop_hw=SQUARE))
    state[f"network.{key}"] = state[f"network.{key}"][..., :0] if "patch" in key else state[f"network.{key}"][:0]
    torch.save(state, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "must be at least 1, got", HEADS)()


# Archives and pickles


def archive(path: Path, pickled: bytes, *others: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in (("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/version", b"3\n"), *others):
            file.writestr(name, content)
    return path


def storage(key: bytes, count: int) -> bytes:
    text = b"X" + struct.pack("<I", len(key)) + key
    return (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + text + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count)
        + b"tQ"
    )  # fmt: skip


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def nested_tuples(depth: int) -> bytes:
    """Pairs of pairs, each shared: as large as 2 to the depth to whoever walks through it."""
    pairs = b"".join(
        b"h" + bytes([number]) + b"h" + bytes([number]) + b"\x86q" + bytes([number + 1]) for number in range(depth)
    )
    return b"K\x01\x85q\x00" + pairs


BOMBS = {
    "a key that takes for ever to hash": b"\x80\x02}" + nested_tuples(60) + b"K\x01s.",
    "a storage that takes for ever to name": b"\x80\x02" + text(b"storage") + nested_tuples(60) + b"\x86Q.",
    "bytes by their number alone": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "bytes by their encoding": b"\x80\x02c_codecs\nencode\n" + text(b"ab" * 1000) + text(b"punycode") + b"\x86R.",
    "a storage by its size alone": b"\x80\x02ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R.",
    "a tensor by its size alone": b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "a list that is copied again and again": (
        b"\x80\x02ccollections\nCounter\nq\x00]q\x01(" + b"K\x01" * 30_000 + b"e\x85q\x020]("
        + b"h\x00h\x02R" * 60_000 + b"e."
    ),
    "a text that is counted again and again": (
        b"\x80\x02ccollections\nCounter\nq\x00" + text(b"x" * 300_000) + b"\x85q\x010]("
        + b"h\x00h\x01R" * 60_000 + b"e."
    ),
    "a state that is set again and again": (
        b"\x80\x02ccollections\nOrderedDict\n)R}q\x00("
        + b"".join(text(b"%d" % number) + b"N" for number in range(9000)) + b"u" + b"bh\x00" * 200_000 + b"b."
    ),
    "marks without an end": b"\x80\x02" + b"(" * 100_000 + b".",
    "brackets without an end": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
}  # fmt: skip


@pytest.mark.parametrize("bomb", list(BOMBS))
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_asks_for_more_than_it_is_long_is_refused_at_once(
    tmp_path: Path, bomb: str, legacy: bool
) -> None:
    path = tmp_path / "m.bin"
    if legacy:
        buffer = io.BytesIO()
        torch.save({}, buffer, _use_new_zipfile_serialization=False)
        start, kept = buffer.getvalue().index(b"."), buffer.getvalue()
        for _ in range(2):  # after the magic number, the version and the system
            start = kept.index(b".", start + 1)
        path.write_bytes(kept[: start + 1] + BOMBS[bomb] + b"\x80\x02].")
    else:
        archive(path, BOMBS[bomb])
    started = time.process_time()
    assert peak_mib(refused(path, r"m\.bin: ")) < 256
    assert time.process_time() - started < 10


def test_an_archive_that_expands_is_refused_before_it_does(tmp_path: Path) -> None:
    for path in (
        archive(tmp_path / "pickle.bin", b"\x80\x02}" + b"0" * 200_000_000, compression=zipfile.ZIP_DEFLATED),
        archive(
            tmp_path / "data.bin", b"\x80\x02}.", ("a/data/0", bytes(200_000_000)), compression=zipfile.ZIP_DEFLATED
        ),
    ):
        assert path.stat().st_size < MIB
        assert peak_mib(refused(path, "entries of a PyTorch file must be stored as they are")) < 64


def test_an_archive_that_lies_is_refused(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    torch.save(official_state(tiny_model(crop_hw=SQUARE)), path)
    whole = path.read_bytes()
    directory = whole.rindex(b"PK\x01\x02")  # the last entry's: its sizes are at 20 and 24
    lying = bytearray(whole)
    lying[directory + 20 : directory + 28] = struct.pack("<II", 1 << 31, 1 << 31)
    path.write_bytes(lying)
    refused(path, "its entries must fit into the file's", HEADS)()
    archive(path, b"\x80\x02}.", ("b/data.pkl", b"\x80\x02}."))
    refused(path, "must hold one 'data.pkl', got 2")()
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, b"\x80\x02}.", ("a/version", b"4\n"))
    refused(path, "a name of its own")()


def test_a_tensor_that_repeats_its_only_number_is_refused(tmp_path: Path) -> None:
    torch.save({"q.weight": torch.zeros(1).expand(1 << 36)}, tmp_path / "m.bin")
    assert peak_mib(refused(tmp_path / "m.bin", "its tensors have 274877906944 bytes, but the file only")) < 64
    views = {f"{number}.weight": torch.zeros(50_000) for number in range(1)}
    torch.save({f"{number}": views["0.weight"] for number in range(1000)}, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "its tensors have 200000000 bytes, but the file only")()


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2, dtype=torch.complex64), torch.zeros(2).to(torch.float8_e4m3fn)],
    ids=["complex", "float8"],
)
def test_numbers_that_no_weights_are_made_of_are_refused(tmp_path: Path, value: torch.Tensor) -> None:
    save_file({"q.weight": value}, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "q.weight must be a plain tensor of numbers")()


def test_whole_numbers_are_no_weights(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    state = official_state(tiny_model(crop_hw=SQUARE))
    state["network.q.weight"] = torch.ones(6, 32, dtype=torch.int64)
    torch.save(state, tmp_path / "m.bin")
    refused(tmp_path / "m.bin", r"network\.q\.weight must hold floating-point numbers, got torch\.int64", HEADS)()


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
def test_a_header_of_safetensors_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    assert peak_mib(refused(tmp_path / "m.safetensors", r"m\.safetensors: ")) < 64


# What is no file, or not all of one


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.bin")
    refused(tmp_path / "m.bin", "must be a regular file")()


@pytest.mark.parametrize("name", ["m.bin", "m.safetensors"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1266\n")
    refused(tmp_path / name, "a pointer of Git LFS, not the file itself: fetch that with `git lfs pull`")()


def test_a_model_in_shards_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused(tmp_path, "in shards .* save it as one file")()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_of_lightning_with_all_that_training_leaves_in_it_is_read(
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


def test_a_file_that_is_written_over_does_not_change_a_model_that_is_loaded(
    tiny_model: Make, official_state: Make, tmp_path: Path
) -> None:
    for name in ("m.bin", "m.safetensors"):
        path, state = tmp_path / name, official_state(tiny_model(crop_hw=SQUARE))
        torch.save(state, path) if name == "m.bin" else save_file(state, path)
        model = load_model(path, HEADS)
        before = model.network.q.weight.clone()
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        assert torch.equal(model.network.q.weight, before)
        assert all(not value.is_meta for value in model.state_dict().values())
