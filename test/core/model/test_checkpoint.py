import json
import os
import pickle
import random
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eomt_ext_core import CheckpointError, EoMTExt, HeadConfig, load_model, save_model
from eomt_ext_core.errors import OutputError

HEADS = {"backbone_overrides": {"num_heads": 2}}
SQUARE = (96, 96)
Make = Callable[..., Any]


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype
        assert torch.equal(value, theirs[key]), key


# Layouts


@pytest.mark.parametrize(
    ("prefix", "wrap", "name"),
    [
        ("network.", False, "pytorch_model.bin"),
        ("", False, "eomt.pth"),
        ("network.", True, "last.ckpt"),
        ("_orig_mod.network.", True, "compiled.ckpt"),
        ("network._orig_mod.", False, "compiled.pt"),
    ],
)
@pytest.mark.parametrize("with_head", [False, True])
def test_official_layouts(
    tiny_model: Make, official_state: Make, head_config: HeadConfig, tmp_path: Path,
    prefix: str, wrap: bool, name: str, with_head: bool,
) -> None:  # fmt: skip
    model = tiny_model(head_config if with_head else None, crop_hw=SQUARE)
    state = official_state(model, prefix)
    torch.save({"state_dict": state, "epoch": 3} if wrap else state, tmp_path / name)
    loaded = load_model(tmp_path / name, HEADS)
    assert_same_weights(loaded, model)
    assert not loaded.training
    assert loaded.config.crop_hw == SQUARE
    assert loaded.config.num_blocks == 2
    assert (loaded.anomaly_head is not None) == with_head
    if loaded.anomaly_head is not None:
        assert loaded.anomaly_head.config.feature_proj_dim == head_config.feature_proj_dim
    assert loaded.info == {}


def test_legacy_pickle_and_safetensors_of_official_layout(
    tiny_model: Make, official_state: Make, tmp_path: Path
) -> None:
    model = tiny_model(crop_hw=SQUARE)
    torch.save(official_state(model), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(official_state(model), tmp_path / "new.safetensors")
    for name in ("old.pth", "new.safetensors"):
        assert_same_weights(load_model(tmp_path / name, HEADS), model)


def test_half_precision_weights_are_widened(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    model = tiny_model(crop_hw=SQUARE)
    torch.save({key: value.half() for key, value in official_state(model).items()}, tmp_path / "half.bin")
    loaded = load_model(tmp_path / "half.bin", HEADS)
    assert loaded.network.q.weight.dtype == torch.float32
    assert torch.equal(loaded.network.q.weight, model.network.q.weight.half().float())
    narrow = load_model(tmp_path / "half.bin", HEADS, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in narrow.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("prefix", ["", "anomaly_head.", "network.anomaly_head."])
def test_a_separate_head_on_a_frozen_model(
    tiny_model: Make, official_state: Make, head_config: HeadConfig, tmp_path: Path, prefix: str
) -> None:
    model = tiny_model(head_config, crop_hw=SQUARE)
    assert model.anomaly_head is not None
    torch.save(official_state(tiny_model(crop_hw=SQUARE)), tmp_path / "eomt.bin")
    head = {prefix + key: value for key, value in model.anomaly_head.state_dict().items()}
    torch.save({"state_dict": head}, tmp_path / "head.ckpt")
    assert_same_weights(load_model(tmp_path / "eomt.bin", HEADS, head=str(tmp_path / "head.ckpt")), model)
    with pytest.raises(CheckpointError, match=r"head\.ckpt: it holds only an anomaly head: give it as head"):
        load_model(tmp_path / "head.ckpt")
    with pytest.raises(CheckpointError, match=r"eomt\.bin holds no anomaly head"):
        load_model(tmp_path / "eomt.bin", HEADS, head=tmp_path / "eomt.bin")


def test_a_head_of_another_backbone(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    torch.save(official_state(tiny_model(crop_hw=SQUARE)), tmp_path / "eomt.bin")
    other = tiny_model(HeadConfig(8), backbone_overrides={"embed_dim": 48, "depth": 3, "num_heads": 2})
    save_model(other, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"eomt\.bin: .*takes 48 visual features, but the network gives 32"):
        load_model(tmp_path / "eomt.bin", HEADS, head=tmp_path / "other.safetensors")


# Our own files


@pytest.mark.parametrize("crop_hw", [(96, 96), (64, 144), (48, 32)])
@pytest.mark.parametrize("with_head", [False, True])
def test_a_saved_model_comes_back_bit_by_bit(
    tiny_model: Make, head_config: HeadConfig, tmp_path: Path, crop_hw: tuple[int, int], with_head: bool
) -> None:
    model = tiny_model(head_config if with_head else None, crop_hw=crop_hw, masked_attention=True)
    model.info = {
        "classes": ["road", "Straße"],
        "calibration": {"scale": 0.1, "shift": -2.3, "threshold": 0.5},
        "epochs": 7,
    }
    save_model(model, str(tmp_path / "deep" / "model.safetensors"))
    loaded = load_model(str(tmp_path / "deep" / "model.safetensors"))
    assert_same_weights(loaded, model)
    assert loaded.config == model.config
    assert loaded.info == model.info
    if loaded.anomaly_head is not None and model.anomaly_head is not None:
        assert loaded.anomaly_head.config == model.anomaly_head.config
    images = torch.rand(1, 3, *crop_hw)
    with torch.no_grad():
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(model(images), loaded(images), strict=True))
    assert_same_weights(load_model(tmp_path / "deep" / "model.safetensors", model.config), model)


def test_the_dropout_of_a_saved_head_is_kept(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(HeadConfig(8, 0.45, None)), tmp_path / "m.safetensors")
    head = load_model(tmp_path / "m.safetensors").anomaly_head
    assert head is not None
    assert head.config == HeadConfig(8, 0.45, None)


def test_crop_of_same_area_and_other_shape_is_resampled(tiny_model: Make, tmp_path: Path) -> None:
    model = tiny_model(crop_hw=(64, 144))
    save_model(model, tmp_path / "m.safetensors")
    square = load_model(tmp_path / "m.safetensors", {"crop_hw": (96, 96)})
    before, after = (each.network.encoder.backbone.pos_embed for each in (model, square))
    assert before.shape == after.shape
    assert not torch.equal(before, after)


def test_masked_attention_may_be_switched(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors", {"masked_attention": True}).config.masked_attention


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_blocks": 3}, "num_blocks is 2 in the file, but 3 is given"),
        ({"backbone": "vit_base_patch14_reg4_dinov2"}, "backbone is 'vit_small.*but 'vit_base"),
        ({"backbone_overrides": {"num_heads": 4}}, "backbone_overrides num_heads is 2 in the file, but 4 is given"),
        ({"num_queries": 9}, "num_queries is 6 in the weights, but 9"),
        ({"crop_hw": (100, 96)}, "crop must be a positive multiple of the patch size 16, got 100"),
        ({"crop_size": 96}, "no field crop_size"),
    ],
)
def test_a_configuration_that_contradicts_the_file(
    tiny_model: Make, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    save_model(tiny_model(), tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=rf"m\.safetensors: .*{message}"):
        load_model(tmp_path / "m.safetensors", given)


def test_overrides_that_agree_may_be_given_again(tiny_model: Make, tmp_path: Path) -> None:
    model = tiny_model()
    save_model(model, tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors", HEADS).config == model.config


def test_saving_is_all_or_nothing(tiny_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.safetensors"
    save_model(tiny_model(seed=1), target)
    before = target.read_bytes()

    def fail_half_way(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail_half_way)
    with pytest.raises(OutputError, match="no space left"):
        save_model(tiny_model(seed=2), target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_saved_is_refused(tiny_model: Make, tmp_path: Path) -> None:
    model = tiny_model()
    with pytest.raises(CheckpointError, match=r"saved as \.safetensors, got 'model\.pt'"):
        save_model(model, tmp_path / "model.pt")
    model.info = {"when": object()}
    with pytest.raises(CheckpointError, match="must be JSON values"):
        save_model(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "metadata cannot be read"),
        ("[]", "metadata cannot be read"),
        ("{}", "metadata cannot be read"),
        ('{"version": 2}', "metadata version must be 1, got 2"),
        ('{"version": 1, "model": 3, "info": {}}', "must hold 'model', 'info' and 'head'"),
    ],
)
def test_damaged_metadata(tiny_model: Make, tmp_path: Path, metadata: str, message: str) -> None:
    path = tmp_path / "m.safetensors"
    save_file(tiny_model().state_dict(), path, metadata={"eomt_ext": metadata})
    with pytest.raises(CheckpointError, match=rf"m\.safetensors: .*{message}"):
        load_model(path)


# What a file leaves open


@pytest.mark.parametrize(
    ("changes", "probs", "known", "message"),
    [
        ({"crop_hw": SQUARE}, None, {}, r"give backbone_overrides\['num_heads'\]"),
        ({}, None, HEADS, "give trained_crop_hw"),
        ({"crop_hw": SQUARE}, torch.tensor([0.2, 1.0]), HEADS, "give masked_attention"),
    ],
)
def test_what_is_not_determined_is_named(
    tiny_model: Make, official_state: Make, tmp_path: Path,
    changes: dict[str, Any], probs: Tensor | None, known: dict[str, Any], message: str,
) -> None:  # fmt: skip
    torch.save(official_state(tiny_model(**changes), probs=probs), tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=rf"m\.bin: .*{message}"):
        load_model(tmp_path / "m.bin", known)


def test_num_blocks_is_named_where_the_annealing_state_is_missing(
    tiny_model: Make, official_state: Make, tmp_path: Path
) -> None:
    model = tiny_model(crop_hw=SQUARE)
    state = official_state(model)
    del state["network.attn_mask_probs"]
    torch.save(state, tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=r"m\.bin: .*num_blocks.*give it in the configuration"):
        load_model(tmp_path / "m.bin", HEADS)
    assert_same_weights(load_model(tmp_path / "m.bin", model.config), model)


# Damaged, foreign and hostile files


def edited(state: dict[str, Tensor], edit: str) -> dict[str, Tensor]:
    norm = "network.encoder.backbone.norm.weight"
    if edit == "missing":
        del state[norm]
    elif edit == "unexpected":
        state["network.decoder.weight"] = torch.zeros(1)
    elif edit == "shape":
        state[norm] = torch.zeros(31)
    elif edit == "nan":
        state[norm][3] = float("nan")
    elif edit == "inf":
        state["network.anomaly_head.mlp.6.bias"][0] = float("inf")
    elif edit == "head":
        del state["network.anomaly_head.mlp.3.bias"]
    elif edit == "many":
        for key in [key for key in state if ".blocks.1." in key]:
            del state[key]
    return state


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("missing", r"network\.encoder\.backbone\.norm\.weight is missing"),
        ("unexpected", r"network\.decoder\.weight is unexpected"),
        ("shape", r"network\.encoder\.backbone\.norm\.weight must have shape \(32,\), got \(31,\)"),
        ("nan", r"weights are not finite: network\.encoder\.backbone\.norm\.weight"),
        ("inf", r"weights are not finite: anomaly_head\.mlp\.6\.bias"),
        ("head", r"anomaly_head\.mlp\.3\.bias is missing"),
        ("many", r"network\.encoder\.backbone\.blocks\.1\.norm1\.weight is missing; .*, and 10 more$"),
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_weights_that_do_not_fit(
    tiny_model: Make, official_state: Make, tmp_path: Path, edit: str, message: str, suffix: str
) -> None:
    state = edited(official_state(tiny_model(HeadConfig(8), crop_hw=SQUARE)), edit)
    path = tmp_path / f"model{suffix}"
    if suffix == ".bin":
        torch.save(state, path)
    else:
        save_file(state, path)
    with pytest.raises(CheckpointError, match=rf"model\{suffix}: .*{message}"):
        load_model(path, HEADS)


def foreign_contents() -> dict[str, Any]:
    return {
        "resnet": {"conv1.weight": torch.zeros(8, 3, 7, 7), "layer1.0.bn1.weight": torch.zeros(8)},
        "list": [torch.zeros(2)],
        "tensor": torch.zeros(2),
        "training": {"epoch": 3, "model": {"weight": torch.zeros(2)}},
        "nothing": {},
    }  # fmt: skip


@pytest.mark.parametrize("kind", list(foreign_contents()))
def test_foreign_contents(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "foreign.pth"
    torch.save(foreign_contents()[kind], path)
    with pytest.raises(CheckpointError, match=r"foreign\.pth: ") as caught:
        load_model(path)
    expected = {"resnet": "conv1.weight", "list": "got list", "tensor": "got Tensor"}
    assert expected.get(kind, "not the weights of an EoMT") in str(caught.value)


@pytest.mark.parametrize("name", ["m.bin", "m.safetensors", "m.ckpt"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, this is a text file\n", b"\x00" * 64, b"PK\x03\x04 no zip", b"\x80\x02"]
)
def test_files_that_are_no_checkpoint(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: {'not a ' if content else 'it is empty'}"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("name", ["m.bin", "old.bin", "m.safetensors"])
def test_truncated_files(tiny_model: Make, official_state: Make, tmp_path: Path, name: str, share: float) -> None:
    state, path = official_state(tiny_model(crop_hw=SQUARE)), tmp_path / name
    if name == "m.safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name == "m.bin")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=rf"{name}: not a .*truncated"):
        load_model(path, HEADS)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_pickle_raises_checkpoint_error(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    torch.save(official_state(tiny_model(crop_hw=SQUARE)), path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    chance = random.Random(4)
    refused = 0
    for _ in range(60):
        damaged = content[:]
        for _ in range(8):
            damaged[chance.randrange(4000)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            load_model(path, HEADS)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 (what is not refused is right too)
            refused += 1
    assert refused > 30


class Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["pickle", "torch", "torch_legacy", "head"])
def test_a_hostile_pickle_is_refused_and_never_run(
    tiny_model: Make, official_state: Make, tmp_path: Path, form: str
) -> None:
    marker, path = tmp_path / "executed", tmp_path / "hostile.bin"
    content = {"network.q.weight": torch.zeros(2), "payload": Payload(f"touch '{marker}'")}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(f"touch '{marker}'")))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form != "torch_legacy")
    torch.save(official_state(tiny_model(crop_hw=SQUARE)), tmp_path / "eomt.bin")
    source, head = (tmp_path / "eomt.bin", path) if form == "head" else (path, None)
    with pytest.raises(CheckpointError, match=r"hostile\.bin: "):
        load_model(source, HEADS, head=head)
    assert not marker.exists()
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists(), "the payload is live where files are trusted"


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.bin: no such file or folder"):
        load_model(tmp_path / "nowhere.bin")
    with pytest.raises(CheckpointError, match=r"must hold model\.safetensors or pytorch_model\.bin"):
        load_model(tmp_path)


# Transformers folders and the hub


@pytest.fixture
def transformers_folder(tmp_path: Path, randomise: Make) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.EomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=96, num_blocks=2, num_queries=6,
        num_labels=5,
    )  # fmt: skip
    model = transformers.EomtForUniversalSegmentation(config)
    randomise(model, 0)
    model.attn_mask_probs.zero_()
    folder = tmp_path / "hub"
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_blocks": 3}, "num_blocks is 2 in the weights, but 3"),
        ({"layer_norm_eps": 0.1}, "norm_eps must be from 1e-12 to 0.01, got 0.1"),
        ({"hidden_act": "relu"}, "hidden_act must be gelu, got 'relu'"),
        ({"image_size": 100}, "crop must be a positive multiple"),
        ({"image_size": None}, "not the configuration of a Transformers model"),
        ({"num_attention_heads": 5}, "num_heads"),
    ],
)
def test_a_transformers_configuration_that_does_not_fit(
    transformers_folder: Path, changes: dict[str, Any], message: str
) -> None:
    path = transformers_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        load_model(transformers_folder)


def test_a_transformers_folder_without_its_configuration(transformers_folder: Path) -> None:
    (transformers_folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="num_heads"):
        load_model(transformers_folder)
    assert load_model(transformers_folder, HEADS).config.crop_hw == SQUARE


def test_a_model_from_the_hub(transformers_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options["allow_patterns"]))
        return str(transformers_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = load_model("hf://owner/name")
    assert isinstance(model, EoMTExt)
    ((name, patterns),) = asked
    assert name == "owner/name"
    for file in ("config.json", "preprocessor_config.json", "model.safetensors", "model-00001-of-00002.safetensors",
                 "model.safetensors.index.json", "pytorch_model.bin"):  # fmt: skip
        assert any(fnmatch(file, pattern) for pattern in patterns), file
    assert not any(fnmatch("training_args.bin", pattern) for pattern in patterns)


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot_download(name: str, **options: Any) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(CheckpointError, match="hf://owner/name: could not be downloaded: no connection"):
        load_model("hf://owner/name")


@pytest.mark.parametrize("source", ["hf://a/b/c", "hf://", "hf://owner/na me"])
def test_names_that_the_hub_cannot_have(source: str) -> None:
    with pytest.raises(CheckpointError, match=f"{source}: could not be downloaded"):
        load_model(source)
