import json
import os
import re
import sys
from html import escape

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from eomt_ext_core import HeadConfig, cli
from eomt_ext_core.config import SCORES
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.files import printable, sha256_of
from eomt_ext_core.images import VideoReader, VideoWriter
from eomt_ext_core.model.checkpoint import save_model


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_model(tiny_model(HeadConfig(16, 0.3, 8)), path)
    return path


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "streets"
    rng = np.random.default_rng(0)
    for index in range(2):
        labels = np.zeros((64, 96), np.uint8)
        labels[20:40, 30:60] = 1
        for name, array in (("images", rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)), ("labels_masks", labels)):
            (root / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name / f"{index}.png"), array)
    return root


def test_evaluate(dataset, checkpoint, tmp_path):
    scores = ("head", "msp", "entropy", "energy", "max_logit", "rba")
    arguments = "--checkpoint", checkpoint, "--output", tmp_path / "out", "--scores", ",".join(scores)
    done = invoke("evaluate", dataset, *arguments)
    assert done.exit_code == 0, done.output
    assert "streets: 2 images, all labelled (images + labels_masks)" in done.output
    for score in scores:
        assert len(re.findall(rf"\n{score} ", done.output)) == 2, "a row of metrics, and one of thresholds"
    assert re.search(r"threshold +95 % found +marked +1 % marked +found", done.output)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics["sets"][0]["scores"]) == list(scores)
    (engine,) = metrics["record"]["engines"]
    assert engine["checkpoint_sha256"] == sha256_of(checkpoint)
    assert engine["precision"] in ("fp32", "bf16", "fp16")
    assert len(metrics["record"]["data_sha256"]) == 64
    assert metrics["about"]["threshold"] == "0.5 (the default, not calibrated)"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "report.html", "timing.json"]


def test_programs_get_json(dataset, checkpoint, tmp_path):
    arguments = "--checkpoint", checkpoint, "--json", "--output"
    found = json.loads(invoke("evaluate", dataset, *arguments, tmp_path / "metrics", "--scores", "head").stdout)
    assert found["sets"][0]["scores"]["head"]["pixel"]["num_valid"] == 2 * 64 * 96
    found = json.loads(invoke("predict", dataset / "images", *arguments, tmp_path / "maps").stdout)
    assert (found["inputs"], found["complete"], found["problems"]) == (2, 2, [])


def test_evaluate_names_what_is_wrong(dataset, checkpoint, tmp_path, monkeypatch):
    arguments = "evaluate", dataset, "--checkpoint", checkpoint, "--output", tmp_path / "out"
    assert isinstance(invoke(*arguments, "--scores", "head,mps").exception, ConfigError)
    assert isinstance(invoke(*arguments, "--scores", ",").exception, ConfigError)
    assert isinstance(invoke("evaluate", tmp_path, dataset, *arguments[2:]).exception, ConfigError)
    assert isinstance(invoke("evaluate", dataset / "images", *arguments[2:]).exception, DatasetError)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "benchmark" in str(invoke(*arguments, "--save-scores").exception)


@pytest.fixture
def masks_of_0_and_255(dataset):
    for path in (dataset / "labels_masks").iterdir():
        cv2.imwrite(str(path), 255 * cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return dataset


def test_evaluate_refuses_labels_without_anomalies(masks_of_0_and_255, checkpoint, tmp_path):
    arguments = "evaluate", masks_of_0_and_255, "--checkpoint", checkpoint, "--output", tmp_path / "out"
    refused = invoke(*arguments)
    assert isinstance(refused.exception, DatasetError)
    way_out = "if 255 marks the anomalies, pass --label-values normal=0,anomaly=255"
    assert f"with the values 0 (normal) in 11,088 pixels, 255 (void) in 1,200 pixels: {way_out}" in str(
        refused.exception
    )
    assert not (tmp_path / "out").exists()
    done = invoke(*arguments, "--label-values", "normal=0,anomaly=255")
    assert done.exit_code == 0, done.output
    assert "nan" not in done.output


def test_tables_of_all_scores_fit_80_columns(dataset, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    scores = ",".join(SCORES)
    done = invoke("evaluate", dataset, "--checkpoint", checkpoint, "--scores", scores, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "…" not in done.output
    assert all(len(line) <= 80 for line in done.output.splitlines() if "%" in line or line.startswith(SCORES))


def test_evaluate_says_which_metrics_there_are_not(checkpoint, tmp_path):
    for name, array in (
        ("images", np.full((64, 96, 3), 90, np.uint8)),
        ("labels_masks", np.eye(64, 96, dtype=np.uint8)),
    ):
        (tmp_path / "specks" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "specks" / name / "0.png"), array)
    done = invoke("evaluate", tmp_path / "specks", "--checkpoint", checkpoint, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "all labelled obstacles are too small for the track: sIoU is undefined" in done.output
    assert "nan" not in done.output
    assert "–" in done.output


def test_evaluate_saves_scores_of_unlabelled_images_too(checkpoint, tmp_path):
    h5py = pytest.importorskip("h5py")
    root = tmp_path / "dataset_AnomalyTrack"
    for name in ("validation0", "zebra0"):
        (root / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "images" / f"{name}.jpg"), np.full((64, 96, 3), 90, np.uint8))
    (root / "labels_masks").mkdir()
    cv2.imwrite(str(root / "labels_masks" / "validation0_labels_semantic.png"), np.eye(64, 96, dtype=np.uint8))
    done = invoke("evaluate", root, "--checkpoint", checkpoint, "--output", tmp_path / "out", "--save-scores")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "scores" / "anomaly_p" / "tiny-head" / "AnomalyTrack-all"
    assert sorted(path.name for path in folder.iterdir()) == ["validation0.hdf5", "zebra0.hdf5"]
    with h5py.File(folder / "zebra0.hdf5") as file:
        assert file["value"].shape == (64, 96)


def test_predict_goes_on_past_what_it_cannot_read(dataset, checkpoint, tmp_path):
    images = dataset / "images"
    (images / "page.jpg").write_bytes(b"<!DOCTYPE html>")
    (images / "empty.png").touch()
    (images / "._0.png").write_bytes(b"\0\5\x16\7")
    (images / "gone.png").symlink_to("nowhere.png")
    (images / "folder.jpg").mkdir()
    os.mkfifo(images / "pipe.bmp")
    done = invoke("predict", images, tmp_path / "no.png", "--checkpoint", checkpoint, "--output", tmp_path / "out")
    assert done.exit_code == 3, done.output
    for told in (
        "folder.jpg is a folder",
        "page.jpg: an image must be JPEG, PNG, WebP or BMP, got a web page",
        "empty.png is empty",
        "gone.png is a broken link",
        "pipe.bmp must be a regular file",
        "no.png does not exist",
        "2 of 8 inputs",
    ):
        assert told in done.output
    assert sorted(path.name for path in (tmp_path / "out" / "overlay").iterdir()) == ["0.png", "1.png"]
    done = invoke("predict", images / "empty.png", "--checkpoint", checkpoint, "--output", tmp_path / "out")
    assert done.exit_code == 1


def test_predict_says_how_much_of_a_video_there_was(checkpoint, tmp_path):
    whole = tmp_path / "whole.mp4"
    with VideoWriter(whole, 10) as video:
        for index in range(12):
            video.write(np.random.default_rng(index).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = invoke("predict", whole, cut, "--checkpoint", checkpoint, "--output", tmp_path / "out")
    assert done.exit_code == 3, done.output
    assert "1 of 2 inputs" in done.output
    (num_read,) = re.findall(
        r"cut\.mp4 is truncated: only (\d+) of 12 frames could be read, at least \d+ bytes", done.output
    )
    for kind in ("overlay", "mask"):
        with VideoReader(tmp_path / "out" / kind / "cut.mp4") as video:
            assert sum(1 for _ in video) == int(num_read)


def test_evaluate_goes_on_past_what_it_cannot_read(dataset, checkpoint, tmp_path):
    (dataset / "images" / "0.png").write_bytes((dataset / "images" / "0.png").read_bytes()[:-100])
    arguments = "evaluate", dataset, "--checkpoint", checkpoint, "--output", tmp_path / "out"
    done = invoke(*arguments)
    assert done.exit_code == 3, done.output
    assert "images/0.png: a PNG image must go from IHDR to IEND" in done.output
    assert "streets (1 of 2 images)" in done.output
    (dataset / "labels_masks" / "1.png").write_bytes(b"")
    done = invoke(*arguments, "--overwrite")
    assert "none of 2 images could be evaluated; the first: " in str(done.exception)


@pytest.mark.parametrize("name", [b"caf\xe9 [red]", b"a\x1b[2J\nb"])
def test_names_may_be_anything_that_the_file_system_takes(name, dataset, checkpoint, tmp_path):
    name = os.fsdecode(name)
    root = dataset.rename(tmp_path / name)
    for folder in ("images", "labels_masks"):
        (root / folder / "0.png").rename(root / folder / f"{name}.png")
    (root / "images" / f"{name}.jpg").symlink_to("nowhere.jpg")
    output = tmp_path / f"out {name}"
    arguments = "--checkpoint", checkpoint, "--output", output
    done = invoke("predict", root / "images" / f"{name}.png", *arguments)
    assert done.exit_code == 0, done.output
    assert [path.name for path in (output / "mask").iterdir()] == [f"{name}.png"]
    done = invoke("predict", root / "images" / f"{name}.jpg", *arguments, "--overwrite")
    assert printable(name) in done.output
    (root / "images" / f"{name}.jpg").unlink()
    (root / "labels_masks" / "1.png").write_bytes(b"")
    done = invoke("evaluate", root, *arguments, "--overwrite")
    assert done.exit_code == 3, done.output
    assert "\x1b" not in done.output
    content = json.loads((output / "metrics.json").read_bytes().decode("utf-8"))["sets"][0]
    assert content["name"] == content["frames"][0]["frame_id"] == printable(name)
    for text in (printable(name), *content["skipped"].values()):
        text.encode("utf-8")
    assert escape(printable(name)) in (output / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_output_that_is_a_file_is_refused(command, dataset, checkpoint, tmp_path):
    (tmp_path / "out").touch()
    for output in (tmp_path / "out", tmp_path / "out" / "deeper"):
        done = invoke(command, dataset / "images" / "0.png" if command == "predict" else dataset,
                      "--checkpoint", checkpoint, "--output", output)  # fmt: skip
        assert isinstance(done.exception, ConfigError), done.output
        assert "the output folder " in str(done.exception)


def test_a_name_that_the_system_refuses_is_told(dataset, checkpoint, tmp_path):
    arguments = "--checkpoint", checkpoint, "--output", tmp_path / "out"
    done = invoke("predict", f"{'a' * 300}.png", *arguments)
    assert done.exit_code == 1
    assert "aaa.png cannot be read: File name too long" in done.output
    with pytest.raises(DatasetError, match="cannot be read: File name too long"):
        raise invoke("evaluate", "a" * 300, *arguments).exception


def test_predict(dataset, checkpoint, tmp_path):
    done = invoke(
        "predict", dataset / "images", "--checkpoint", checkpoint, "--output", tmp_path / "out", "--threshold", 0
    )
    assert done.exit_code == 0, done.output
    for kind in ("probability", "mask", "overlay"):
        assert sorted(path.name for path in (tmp_path / "out" / kind).iterdir()) == ["0.png", "1.png"]
    probability = cv2.imread(str(tmp_path / "out" / "probability" / "0.png"), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(tmp_path / "out" / "mask" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert (mask[probability > 0] == 255).all()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_results_are_replaced_only_on_demand(dataset, checkpoint, tmp_path, command):
    source = dataset if command == "evaluate" else dataset / "images"
    arguments = command, source, "--checkpoint", checkpoint, "--output", tmp_path / "out"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    refused = invoke(*arguments)
    assert isinstance(refused.exception, ConfigError)
    assert "--overwrite" in str(refused.exception)
    done = invoke(*arguments, "--overwrite")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (
        len([path for path in (tmp_path / "out").iterdir() if not path.name.startswith(("notes", "unfinished"))])
        == {"evaluate": 3, "predict": 7}[command]
    )
    assert isinstance(
        invoke(*arguments[:5], source if command == "predict" else dataset / "images").exception, ConfigError
    )


def test_a_filled_folder_is_told_before_the_data_are_read(dataset, checkpoint, tmp_path):
    (dataset / "labels_masks" / "0.png").write_bytes(b"")
    refused = invoke("evaluate", dataset, "--checkpoint", checkpoint, "--output", dataset).exception
    assert "the output folder must be empty" in str(refused)


def test_a_missing_checkpoint_is_told_before_the_data_are_read(dataset, tmp_path):
    (dataset / "labels_masks" / "0.png").write_bytes(b"")
    arguments = "--output", tmp_path / "out", "--checkpoint"
    assert "no such file" in str(invoke("evaluate", dataset, *arguments, "nowhere.bin").exception)
    assert not (tmp_path / "out").exists()


def test_a_separate_head_is_evaluated(dataset, tiny_model, tmp_path):
    model = tiny_model(HeadConfig(16, 0.3, 8))
    state = {f"anomaly_head.{name}": value for name, value in model.anomaly_head.state_dict().items()}
    save_file(state, tmp_path / "head.safetensors")
    save_model(tiny_model(), tmp_path / "plain.safetensors")
    save_model(model, tmp_path / "whole.safetensors")
    found = []
    for name, more in (("plain", ("--head", tmp_path / "head.safetensors")), ("whole", ())):
        arguments = "--checkpoint", tmp_path / f"{name}.safetensors", *more, "--output", tmp_path / name, "--json"
        found.append(json.loads(invoke("evaluate", dataset, *arguments).stdout)["sets"])
    assert found[0] == found[1]


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_an_exported_file_is_measured_and_run_like_a_checkpoint(backend, dataset, onnx_file, tmp_path, monkeypatch):
    if backend == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    common = "--checkpoint", onnx_file, "--backend", backend, "--device", "cpu"
    done = invoke("evaluate", dataset, *common, "--output", tmp_path / "out", "--scores", "head,rba", "--workers", 1)
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics["sets"][0]["scores"]) == ["head", "rba"]
    done = invoke("predict", dataset / "images", *common, "--output", tmp_path / "predicted")
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "predicted" / "overlay").iterdir())) == 2
    refused = invoke("evaluate", dataset, *common, "--output", tmp_path / "no", "--scores", "msp", "--workers", 1)
    assert "score 'msp' is not in the exported file: choose from head, rba" in str(refused.exception)
