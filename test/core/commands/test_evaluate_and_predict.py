import json
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from eomt_ext_core import HeadConfig, cli
from eomt_ext_core.errors import ConfigError, DatasetError
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
        assert f"\n{score} " in done.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics["sets"][0]["scores"]) == list(scores)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "report.html", "timing.json"]


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


def test_evaluate_refuses_labels_without_anomalies_and_says_what_their_values_may_mean(
    masks_of_0_and_255, checkpoint, tmp_path
):
    arguments = "evaluate", masks_of_0_and_255, "--checkpoint", checkpoint, "--output", tmp_path / "out"
    refused = invoke(*arguments)
    assert isinstance(refused.exception, DatasetError)
    way_out = "if 255 marks the anomalies, give --label-values normal=0,anomaly=255"
    assert f"whose values are 0 (normal) in 11,088 pixels, 255 (void) in 1,200 pixels: {way_out}" in str(
        refused.exception
    )
    assert not (tmp_path / "out").exists()
    done = invoke(*arguments, "--label-values", "normal=0,anomaly=255")
    assert done.exit_code == 0, done.output
    assert "nan" not in done.output


def test_evaluate_says_which_metrics_there_are_not(checkpoint, tmp_path):
    for name, array in (
        ("images", np.full((64, 96, 3), 90, np.uint8)),
        ("labels_masks", np.eye(64, 96, dtype=np.uint8)),
    ):
        (tmp_path / "specks" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "specks" / name / "0.png"), array)
    done = invoke("evaluate", tmp_path / "specks", "--checkpoint", checkpoint, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "no labelled obstacle is of the least size that counts: there is no sIoU" in done.output
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
