"""What ``eomt-ext info`` says of every kind of file."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from eomt_ext_core import CheckpointError, EoMTExt, HeadConfig, save_model
from eomt_ext_core.about.file_facts import facts_of, guarantee
from eomt_ext_core.about.text import lines_of
from eomt_ext_core.cli import app
from eomt_ext_core.errors import EomtExtError
from eomt_ext_core.normality.normal_file import save_normality
from eomt_ext_core.normality.normality import Normality, Reading
from eomt_ext_core.normality.patch_distance import PatchDistance
from eomt_ext_core.runtimes.contents import ExportContents

NAMES = ["road", "car", "sky", "pole", "person"]
CALIBRATION = {"scale": 1.0, "shift": -2.0, "threshold": 0.25, "target_tpr": 0.95, "num_frames": 40, "data": "val"}
INFO = {"class_names": NAMES}
CONTENTS = ExportContents((64, 96), 5, ("head", "rba"), "fp16", 2, 1, INFO, {"checkpoint_sha256": "a"})


@pytest.fixture
def model(tiny_model: Callable[..., EoMTExt]) -> EoMTExt:
    model = tiny_model(HeadConfig(16, 0.3, 8))
    baseline = {**CALIBRATION, "threshold": 0.4}
    model.info = {
        "class_names": NAMES, "calibration": CALIBRATION, "score_calibrations": {"rba": baseline}, "name": "streets"
    }  # fmt: skip
    return model


def test_a_checkpoint(model: EoMTExt, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m.safetensors")
    facts = facts_of(str(tmp_path / "m.safetensors"))
    assert (facts["kind"], facts["window_hw"], facts["patch"]) == ("checkpoint", [64, 96], 16)
    assert facts["head"] == {
        "form": "features projected to 8 channels",
        "hidden": 16,
        "parameters": sum(part.numel() for part in model.anomaly_head.parameters()),  # type: ignore[union-attr]
    }
    assert facts["parameters"] == sum(part.numel() for part in model.parameters())
    assert facts["classes"] == {"0": "road", "1": "car", "2": "sky", "3": "pole", "4": "person"}
    assert facts["threshold"] == {"value": 0.25, "origin": "calibration of the checkpoint"}
    assert facts["guarantee"].startswith("finds at least 95 % of the anomalous pixels of a frame")
    assert facts["baselines"]["rba"] == {"threshold": 0.4, "guarantee": facts["guarantee"]}
    assert facts["provenance"] == {"name": "streets"}
    assert len(facts["sha256"]) == 64


def test_an_uncalibrated_model_without_head(tiny_model: Callable[..., EoMTExt], tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "m.safetensors")
    facts = facts_of(str(tmp_path / "m.safetensors"))
    assert (facts["head"], facts["classes"], facts["guarantee"]) == (None, 5, "none: not calibrated")
    assert facts["threshold"] is None, "a baseline has none of its own"
    save_model(tiny_model(HeadConfig(16)), tmp_path / "h.safetensors")
    assert facts_of(str(tmp_path / "h.safetensors"))["threshold"] == {"value": 0.5, "origin": "default"}


def test_what_an_official_file_leaves_open_is_named(model: EoMTExt, tmp_path: Path) -> None:
    torch.save({key: value for key, value in model.state_dict().items() if key[:4] == "netw"}, tmp_path / "m.bin")
    done = CliRunner().invoke(app, ["info", str(tmp_path / "m.bin"), "--json"])
    assert done.exit_code == 0, done.exception
    facts = json.loads(done.stdout)
    assert facts["kind"] == "checkpoint that leaves its architecture open"
    assert facts["missing"].startswith("--num-blocks, --num-heads, --trained-crop: eomt-ext convert")
    assert (facts["sizes"]["embed_dim"], facts["sizes"]["num_classes"]) == (32, 5)


def test_a_separate_head(model: EoMTExt, tmp_path: Path) -> None:
    state = {f"anomaly_head.{name}": value for name, value in model.anomaly_head.state_dict().items()}  # type: ignore[union-attr]
    save_file(state, tmp_path / "head.safetensors")
    facts = facts_of(str(tmp_path / "head.safetensors"))
    assert (facts["kind"], facts["head"]["hidden"]) == ("anomaly head", 16)


def test_a_file_of_learn_normal(tmp_path: Path) -> None:
    distance = PatchDistance(torch.eye(4), torch.zeros(3, 4))
    normality = Normality(distance, {"normality": Reading(0, 1, 0)}, {"checkpoint_sha256": "b"}, {"images_learnt": 7})
    save_normality(normality, tmp_path / "n.safetensors")
    facts = facts_of(str(tmp_path / "n.safetensors"))
    assert (facts["kind"], facts["prototypes"], facts["scores"]) == ("normality", 3, ["normality"])
    assert facts["belongs_to"] == {"checkpoint_sha256": "b"}


@pytest.mark.parametrize("write", ["onnx", "pt2"])
def test_an_export_is_read_and_not_run(write: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{write}"
    (write_onnx if write == "onnx" else write_pt2)(path, CONTENTS.to_metadata())
    facts = facts_of(str(path))
    assert facts["kind"] == f"export ({write})"
    assert (facts["outputs"], facts["precision"], facts["windows_in_a_call"]) == (["head", "rba"], "fp16", 1)
    assert facts["classes"]["4"] == "person"
    assert facts["made_from"] == {"checkpoint_sha256": "a"}


def test_metrics_of_a_run(tmp_path: Path) -> None:
    content = {"format": 1, "sets": [{"name": "a", "num_frames": 2, "scores": {"head": {}}}], "record": {"date": "x"}}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    facts = facts_of(str(tmp_path / "metrics.json"))
    assert facts_of(str(tmp_path)) == facts
    assert facts["sets"] == {"a": {"frames": 2, "scores": ["head"]}}
    assert facts["record"] == {"date": "x"}


def test_a_model_folder_may_hold_metrics_of_others(model: EoMTExt, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model.safetensors")
    (tmp_path / "metrics.json").write_text('{"loss": 0.1}')
    assert facts_of(str(tmp_path))["kind"] == "checkpoint"


HOSTILE = {
    "m.onnx": b"\x0a\xff\xff\xff\xff\x0f",
    "m.pt2": b"PK\x03\x04 nothing",
    "m.safetensors": b"\xff" * 64,
    "m.bin": b"cos\nsystem\n(S'true'\ntR.",
    "m.json": b"[" * 100_000,
    "other.json": b"{}",
    "empty.onnx": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    with pytest.raises(EomtExtError, match=name) as caught:
        facts_of(str(tmp_path / name))
    assert "\n" not in str(caught.value)


INSTEAD = {
    "a.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "fetch the file with `git lfs pull`"),
    "b.onnx": (b"version https://git-lfs.github.com/spec/v1\n", "fetch the file with `git lfs pull`"),
    "c.safetensors": (b"<!DOCTYPE html><html>", "a web page: download the file itself"),
    "d.mcap": (b"\x89MCAP0\r\n", "a recorded bag: `eomt-ext replay`"),
    "e.db3": (b"SQLite format 3\0", "a recorded bag: `eomt-ext replay`"),
    "f.bin": (b"\xff\xd8\xff\xe0\0\x10JFIF", "an image: `eomt-ext predict`"),
    "g.mp4": (b"\0\0\0\x20ftypisom", "a video: `eomt-ext predict`"),
    "h.json": (b"", "it is empty"),
    "i.avi": (b"RIFF\x10\n\0\0AVI LIST", "a video: `eomt-ext predict`"),
    "j.webp": (b"RIFF\x10\n\0\0WEBPVP8 ", "an image: `eomt-ext predict`"),
    "bag/metadata.yaml": (b"", "a recorded bag: `eomt-ext replay`"),
    "pack/evidence.json": (b"{}", "an evidence pack: `eomt-ext verify`"),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_is_no_model_is_told_with_what_takes_it(name: str, tmp_path: Path) -> None:
    content, says = INSTEAD[name]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        facts_of(str(path.parent if "/" in name else path))


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source, says in (
        (str(tmp_path / "pipe"), "must be a regular file"),
        ("https://host/model.safetensors", "^https://host/model.safetensors: nothing is downloaded from there"),
        ("", "^no such file or folder; give"),
    ):
        with pytest.raises(CheckpointError, match=says):
            facts_of(source)


def test_metadata_of_an_archive_are_bounded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wrapper_metadata.json", b" " * (1 << 24))
    with pytest.raises(CheckpointError, match="metadata must have at most"):
        facts_of(str(tmp_path / "m.pt2"))


def test_a_terminal_never_obeys_a_file() -> None:
    assert list(lines_of({"na\x1b[2Jme": "red\x1b[31m"})) == ["na\\x1b[2Jme  red\\x1b[31m"]


def test_a_guarantee_is_a_sentence() -> None:
    promise = guarantee(CALIBRATION | {"guarantee": "obstacles", "confidence": 0.99})
    assert promise == (
        "finds at least 95 % of the obstacles of each size with a confidence of 99 %; fitted on 40 frames of val"
    )
    assert guarantee({"scale": 1}) == "none stated"


def write_onnx(path: Path, metadata: dict[str, str]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def write_pt2(path: Path, metadata: dict[str, str]) -> None:
    """As AOTInductor lays it out; a package that it compiled is read in test_pt2_file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/aotinductor/model/c.wrapper_metadata.json", json.dumps({**metadata, "AOTI": "cpu"}))
        archive.writestr("m/data/aotinductor/model/c.so", b"\x7fELF")


def test_contents_survive_the_metadata_of_onnx(tmp_path: Path) -> None:
    from eomt_ext_core.about.exported import read_exported

    contents = replace(CONTENTS, batch=0)
    write_onnx(tmp_path / "m.onnx", contents.to_metadata())
    assert read_exported(tmp_path / "m.onnx") == contents
