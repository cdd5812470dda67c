"""Every kind of file that people have, through ``eomt-ext convert``: what becomes of it, and what is said."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from eomt_ext_core import CheckpointError, EoMTExt, HeadConfig, load_model, save_model
from eomt_ext_core.cli import app

transformers = pytest.importorskip("transformers", minversion="5.0")

Make = Callable[..., Any]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 96, "num_blocks": 2,
         "num_queries": 6, "num_labels": 5}  # fmt: skip
HEADS, CROP = ("--num-heads", "2"), ("--crop", "96", "96")


class Kind(NamedTuple):
    """How a file is written, the options that it is converted with, and what is printed: in an error, or of success."""

    write: Callable[["Files"], Path]
    options: tuple[str, ...] = ()
    says: str = "dinov2 .* window 96×96, 6 queries, 5 classes, without anomaly head"
    converted: bool = True


class Files:
    """Writes files of a tiny model into a folder."""

    def __init__(self, folder: Path, model: EoMTExt, with_head: EoMTExt, state: dict[str, Any]) -> None:
        self.folder, self.model, self.with_head, self.state = folder, model, with_head, state

    def torch(self, content: Any, name: str = "m.bin", **options: Any) -> Path:
        torch.save(content, self.folder / name, **options)
        return self.folder / name

    def prefixed(self, prefix: str) -> dict[str, Any]:
        return {prefix + key.removeprefix("network."): value for key, value in self.state.items()}

    def tensors(self, state: dict[str, Any], name: str = "m.safetensors") -> Path:
        save_file({key: value.contiguous() for key, value in state.items()}, self.folder / name)
        return self.folder / name

    def own(self) -> Path:
        save_model(self.with_head, self.folder / "ours.safetensors")
        return self.folder / "ours.safetensors"

    def text(self, content: str | bytes, name: str = "m.bin") -> Path:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return self.folder / name

    def transformers(self, dinov3: bool = False, **options: Any) -> Path:
        sizes = SIZES | {name: options.pop(name) for name in list(options) if name in ("id2label", "use_gated_mlp")}
        kind, settings = ("EomtDinov3", {"intermediate_size": 64}) if dinov3 else ("Eomt", {})
        config = getattr(transformers, f"{kind}Config")(**sizes, **settings)
        model = getattr(transformers, f"{kind}ForUniversalSegmentation")(config)
        model.attn_mask_probs.zero_()
        model.save_pretrained(self.folder, **options)
        return self.folder

    def beside(self, name: str, content: dict[str, Any], folder: Path) -> Path:
        (folder / name).write_text(json.dumps(content))
        return folder

    def without(self, folder: Path, pattern: str) -> Path:
        next(folder.glob(pattern)).unlink()
        return folder

    def without_registers(self) -> Path:
        name = "network.encoder.backbone.pos_embed"
        state = {key: value for key, value in self.state.items() if "reg_token" not in key}
        return self.torch(state | {name: torch.cat((state[name][:, :1], state[name]), dim=1)})

    def trained_head(self) -> Path:
        return self.tensors(
            {f"anomaly_head.{key}": value for key, value in self.with_head.anomaly_head.state_dict().items()}
        )


WRONG = {"converted": False}
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1266\n"
KINDS = {
    "official .bin": Kind(lambda f: f.torch(f.state), HEADS),
    "official, legacy format": Kind(lambda f: f.torch(f.state, "m.pth", _use_new_zipfile_serialization=False), HEADS),
    "official as safetensors": Kind(lambda f: f.tensors(f.state), HEADS),
    "official in 16 bit": Kind(lambda f: f.torch({key: value.bfloat16() for key, value in f.state.items()}), HEADS),
    "official without its heads named": Kind(lambda f: f.torch(f.state), (), "number of attention heads", **WRONG),
    "official, configuration beside it": Kind(
        lambda f: f.beside("config.json", {"model_type": "eomt", "num_attention_heads": 2, "num_blocks": 2,
                                           "image_size": 96}, f.torch(f.state, "pytorch_model.bin").parent),
    ),
    "Lightning": Kind(lambda f: f.torch({"state_dict": f.state, "epoch": 3, "optimizer_states": []}, "m.ckpt"), HEADS),
    "container model": Kind(lambda f: f.torch({"model": f.state, "epoch": 3}), HEADS),
    "container model_state_dict": Kind(lambda f: f.torch({"model_state_dict": f.state, "loss": 0.1}), HEADS),
    "container teacher": Kind(lambda f: f.torch({"teacher": f.state}), HEADS),
    "weights and average": Kind(
        lambda f: f.torch({"model": f.state, "ema": f.state}), HEADS,
        "several networks, model, ema: .*--weights ema", **WRONG,
    ),
    "weights and average, one named": Kind(
        lambda f: f.torch({"model": f.state, "ema": f.state}), (*HEADS, "--weights", "ema")
    ),
    "a network that is not there": Kind(
        lambda f: f.torch({"model": f.state}), (*HEADS, "--weights", "ema"), "it holds no 'ema'", **WRONG
    ),
    "of DataParallel": Kind(lambda f: f.torch(f.prefixed("module.")), HEADS),
    "compiled, of DataParallel": Kind(lambda f: f.torch(f.prefixed("module._orig_mod.network.")), HEADS),
    "compiled in a model": Kind(lambda f: f.torch(f.prefixed("model._orig_mod.module.")), HEADS),
    "without registers": Kind(lambda f: f.without_registers(), HEADS, "'reg_tokens': 0"),
    "ours": Kind(lambda f: f.own(), (), "window 96×64, .* with anomaly head"),
    "ours at another window": Kind(lambda f: f.own(), CROP, "window 96×96, .* with anomaly head"),
    "Transformers": Kind(lambda f: f.transformers()),
    "Transformers in shards": Kind(lambda f: f.transformers(max_shard_size="30KB")),
    "a shard is missing": Kind(
        lambda f: f.without(f.transformers(max_shard_size="30KB"), "model-*"), (), "must be a regular file", **WRONG,
    ),
    "Transformers, no configuration": Kind(
        lambda f: f.without(f.transformers(), "config.json"), (), "number of attention heads", **WRONG
    ),
    "Transformers, another normalisation": Kind(
        lambda f: f.beside(
            "preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, f.transformers()
        )
    ),
    "Transformers, pixels not scaled": Kind(
        lambda f: f.beside("preprocessor_config.json", {"do_rescale": False}, f.transformers()), (),
        "rescale_factor must be 1/255", **WRONG,
    ),
    "DINOv3 of Transformers": Kind(lambda f: f.transformers(dinov3=True), (), "dinov3.* window 96×96, 6 queries"),
    "DINOv3 in shards": Kind(lambda f: f.transformers(dinov3=True, max_shard_size="30KB"), (), "dinov3.* window 96×96"),
    "DINOv3 with gated MLPs": Kind(
        lambda f: f.transformers(dinov3=True, use_gated_mlp=True), (), "use_gated_mlp must be False", **WRONG
    ),
    "another model": Kind(
        lambda f: f.torch({"conv1.weight": torch.zeros(8, 3, 7, 7)}), (), "these are not the weights of an EoMT",
        **WRONG,
    ),
    "a head alone": Kind(lambda f: f.trained_head(), (), "it holds only an anomaly head", **WRONG),
    "a list": Kind(lambda f: f.torch([torch.zeros(2)]), (), "must hold a state dict .* got list", **WRONG),
    "a pickle of objects": Kind(
        lambda f: f.text(pickle.dumps({"model": Path("x")})), (),
        "another kind of pickle .* with torch.save", **WRONG,
    ),
    "a pointer of Git LFS": Kind(lambda f: f.text(LFS), (), "a pointer of Git LFS: fetch", **WRONG),
    "a web page": Kind(lambda f: f.text("<!doctype html>"), (), "a web page: download", **WRONG),
    "an empty file": Kind(lambda f: f.text(b""), (), "it is empty", **WRONG),
    "cut short": Kind(
        lambda f: f.text(f.tensors(f.state).read_bytes()[:-1000], "cut.safetensors"), (),
        "not a readable safetensors", **WRONG,
    ),
    "an empty folder": Kind(lambda f: f.folder, (), "a model folder must hold model.safetensors", **WRONG),
    "nothing": Kind(lambda f: f.folder / "none.bin", (), "no such file or folder", **WRONG),
    "an exported file": Kind(lambda f: f.text(b"\x08\x08", "m.onnx"), (), "an exported file is not a ch", **WRONG),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_files(tiny_model: Make, official_state: Make, tmp_path: Path, kind: str) -> None:
    model = tiny_model(crop_hw=(96, 96))
    (tmp_path / "files").mkdir()
    files = Files(tmp_path / "files", model, tiny_model(HeadConfig(8)), official_state(model))
    case, target = KINDS[kind], tmp_path / "converted.safetensors"
    source = case.write(files)
    done = CliRunner().invoke(app, ["convert", str(source), str(target), *case.options])
    said = done.output if case.converted else str(done.exception)
    assert target.is_file() is case.converted, said
    assert case.converted or isinstance(done.exception, CheckpointError)
    assert re.search(case.says, said, re.DOTALL), said
    if case.converted:
        assert load_model(target).config.num_classes == 5


def test_classes_are_named_on_the_command_line(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "m.safetensors")
    (tmp_path / "names.txt").write_text("road\ncar\n\nperson\nsky\ntree\n", encoding="utf-8")
    for given in (str(tmp_path / "names.txt"), "road, car,person,sky,tree"):
        arguments = [
            "convert",
            str(tmp_path / "m.safetensors"),
            str(tmp_path / "n.safetensors"),
            "--overwrite",
            "--class-names",
            given,
        ]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert load_model(tmp_path / "n.safetensors").info["class_names"] == ["road", "car", "person", "sky", "tree"]
    done = CliRunner().invoke(app, [*arguments[:-1], "road,car"])
    assert "class_names must be 5 texts" in str(done.exception)


@pytest.mark.parametrize(
    ("given", "number", "names"),
    [
        ("cityscapes", 19, {0: "road", 10: "sky", 18: "bicycle"}),
        ("ade20k", 150, {0: "wall", 6: "road", 149: "flag"}),
        ("coco", 133, {0: "person", 80: "banner", 132: "rug-merged"}),
        ("coco", 80, {0: "person", 79: "toothbrush"}),
    ],
)
def test_published_classes_have_names(
    tiny_model: Make, tmp_path: Path, given: str, number: int, names: dict[int, str]
) -> None:
    save_model(tiny_model(num_classes=number), tmp_path / "m.safetensors")
    arguments = ["convert", str(tmp_path / "m.safetensors"), str(tmp_path / "n.safetensors"), "--class-names", given]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    found = load_model(tmp_path / "n.safetensors").info["class_names"]
    assert (len(found), len(set(found))) == (number, number)
    assert {index: found[index] for index in names} == names


def test_all_that_is_missing_is_named_at_once(tiny_model: Make, official_state: Make, tmp_path: Path) -> None:
    state = official_state(tiny_model(crop_hw=(64, 96)))
    torch.save({key: value for key, value in state.items() if "attn_mask_probs" not in key}, tmp_path / "m.bin")
    arguments = ["convert", str(tmp_path / "m.bin"), str(tmp_path / "n.safetensors")]
    said = str(CliRunner().invoke(app, arguments).exception)
    assert "give --num-blocks --num-heads --trained-crop to `eomt-ext convert`" in said
    given = ["--num-blocks", "2", "--num-heads", "2", "--trained-crop", "64", "96"]
    done = CliRunner().invoke(app, [*arguments, *given])
    assert done.exit_code == 0, done.exception


def test_as_many_names_as_ade20k_has(tiny_model: Make, tmp_path: Path) -> None:
    save_model(tiny_model(num_classes=150), tmp_path / "m.safetensors")
    names = [f"class {number}" for number in range(150)]  # longer together than the name of a file may be
    arguments = ["convert", str(tmp_path / "m.safetensors"), str(tmp_path / "n.safetensors"), "--class-names"]
    done = CliRunner().invoke(app, [*arguments, ",".join(names)])
    assert done.exit_code == 0, done.exception
    assert load_model(tmp_path / "n.safetensors").info["class_names"] == names
