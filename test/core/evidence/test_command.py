"""A pack as a user makes it: what it states, what it states as missing, and what it refuses."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eomt_ext_core import load_model, save_model
from eomt_ext_core.errors import ConfigError, InferenceError
from eomt_ext_core.files import sha256_of

Made = tuple[Path, dict[str, Any]]


def facts(pack: dict[str, Any], part: str) -> dict[str, Any]:
    return {name: fact["value"] for name, fact in pack["parts"][part]["facts"].items()}


def rows(pack: dict[str, Any], part: str, title: str) -> list[dict[str, Any]]:
    (found,) = [table for table in pack["parts"][part]["tables"] if table["title"].startswith(title)]
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def missing(pack: dict[str, Any], part: str) -> str:
    return " ".join(item["what"] for item in pack["parts"][part]["missing"])


def test_a_pack_says_what_was_examined(made: Made, checkpoint: Path, streets: Path) -> None:
    _, pack = made
    assert pack["format"] == 1
    (file,) = rows(pack, "model", "Files")
    assert file["SHA-256"] == sha256_of(checkpoint)
    (row,) = rows(pack, "data", "Sets")
    files = [path for path in streets.rglob("*.png") if path.is_file()]
    assert (row["use"], row["images"], row["labels"]) == ("evaluation", 2, 2)
    hashes = "\n".join(sorted(map(sha256_of, files)))
    assert row["SHA-256 of the contents"] == hashlib.sha256(hashes.encode()).hexdigest()
    assert facts(pack, "self_test")["score head"].startswith("passed, ")
    assert facts(pack, "provenance")["training"]["seed"] == 3
    assert facts(pack, "environment")["torch"].startswith("2.")


def test_figures_are_those_of_the_evaluation_in_it(made: Made) -> None:
    folder, pack = made
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    (row,) = rows(pack, "accuracy", "Metrics")
    pixel = metrics["sets"][0]["scores"]["head"]["pixel"]
    assert (row["set"], row["frames"], row["score"]) == ("streets", 2, "head")
    assert row["AuPRC"]["value"] == pixel["auprc"]
    assert row["AuPRC"]["low"] <= pixel["auprc"] <= row["AuPRC"]["high"]
    worst = rows(pack, "accuracy", "The 5 worst")
    assert sorted(frame["frame"] for frame in worst) == ["a", "b"]
    assert {frame["anomalous pixels"] for frame in worst} == {500}


def test_the_guarantee_is_told_with_what_it_was_fitted_on(made: Made) -> None:
    _, pack = made
    (row,) = rows(pack, "calibration", "Thresholds")
    assert (row["score"], row["threshold"]) == ("head", 0.3)
    assert "95 % of the anomalous pixels of a frame in expectation; fitted on 40 frames of street" in str(row)


def test_what_is_missing_is_stated_with_the_way_out(made: Made) -> None:
    folder, pack = made
    assert "no record of the commands" in missing(pack, "provenance")
    assert "its folder has no README, LICENSE, COPYING or NOTICE" in missing(pack, "data")
    assert "no calibration data were given" in missing(pack, "data")
    assert "not measured on frames that it was not fitted on" in missing(pack, "calibration")
    assert "no drive is known" in missing(pack, "drift")
    page = (folder / "evidence.html").read_text(encoding="utf-8")
    for part in pack["parts"].values():
        assert all(item["way_out"] and item["what"] in page for item in part["missing"])


def test_everything_has_a_source(made: Made) -> None:
    _, pack = made
    stated = [item for part in pack["parts"].values() for item in (*part["facts"].values(), *part["tables"])]
    assert len(stated) > 40
    assert all(item["source"] for item in stated)


def test_without_data_the_pack_claims_no_figures(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("evidence", "demo", "--scores", "head,rba", "--output", tmp_path / "pack", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["sha256"] == sha256_of(tmp_path / "pack" / "files.sha256")
    assert any("there are no figures, as the model was not evaluated" in line for line in told["missing"])
    pack = json.loads((tmp_path / "pack" / "evidence.json").read_text(encoding="utf-8"))
    assert pack["parts"]["accuracy"]["tables"] == []
    assert "no calibration of score head is stored" in missing(pack, "calibration")
    assert "no calibration of score rba is stored" in missing(pack, "calibration")
    assert {facts(pack, "self_test")[f"score {score}"][:6] for score in ("head", "rba")} == {"passed"}
    assert facts(pack, "provenance")["purpose"].endswith("not for use on a vehicle")


def test_images_that_were_calibrated_on_are_told(
    streets: Path, tmp_path: Path, pack_of: Callable[..., Any], made: Made
) -> None:
    held = tmp_path / "bundle" / "held"
    shutil.copytree(streets, held)
    (held / "images" / "a.png").write_bytes((held / "images" / "a.png").read_bytes() + b"\0")
    (tmp_path / "bundle" / "LICENSE").write_text("CC0")
    arguments = ["--data", streets, "--calibration-data", held.parent, "--evaluation", made[0] / "evaluation"]
    assert pack_of(*arguments, "--output", tmp_path / "second").exit_code == 0
    pack = json.loads((tmp_path / "second" / "evidence.json").read_text(encoding="utf-8"))
    (row,) = rows(pack, "data", "Images in two sets")
    assert (row["same images"], row["such as"]) == (1, "b.png")
    assert "independence: 1 images are in both streets (evaluation) and held (calibration)" in missing(pack, "data")
    assert rows(pack, "data", "Statements")[0]["file"] == "LICENSE"
    assert "no calibration data" not in missing(pack, "data")
    assert "as an earlier result says" in missing(pack, "accuracy")
    assert [path.name for path in (tmp_path / "second" / "evaluation").iterdir()] == ["metrics.json"]


def test_the_same_inputs_give_the_same_pack_but_for_dates(
    streets: Path, tmp_path: Path, pack_of: Callable[..., Any], made: Made
) -> None:
    found = []
    for name in ("one", "two"):
        arguments = ["--data", streets, "--evaluation", made[0] / "evaluation", "--output", tmp_path / name]
        assert pack_of(*arguments).exit_code == 0
        pack = json.loads((tmp_path / name / "evidence.json").read_text(encoding="utf-8"))
        del pack["record"], pack["parts"]["environment"]
        found.append(pack)
    assert found[0] == found[1]


def test_a_result_of_other_scores_windows_or_precision_is_told(
    streets: Path, tmp_path: Path, pack_of: Callable[..., Any], made: Made
) -> None:
    file = tmp_path / "metrics.json"
    metrics = json.loads((made[0] / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    metrics["record"]["engines"] += [metrics["record"]["engines"][0] | {"precision": "bf16"}]
    file.write_text(json.dumps(metrics), encoding="utf-8")
    arguments = ["--scores", "head,rba", "--windows", "grid", "--evaluation", file, "--output", tmp_path / "pack"]
    assert pack_of(*arguments).exit_code == 0
    pack = json.loads((tmp_path / "pack" / "evidence.json").read_text(encoding="utf-8"))
    told = missing(pack, "accuracy")
    assert "streets: score rba was not evaluated" in told
    assert "score head" not in told
    assert "measured with the windows eomt, uniform, the rest of this pack with grid, uniform, overlap" in told
    assert "measured with the precision bf16, fp32, the rest of this pack with fp32" in told
    assert facts(pack, "self_test")["engine: windows"] == "grid"


def test_windows_are_those_of_the_evaluation(streets: Path, tmp_path: Path, pack_of: Callable[..., Any]) -> None:
    assert pack_of("--data", streets, "--windows", "fovea", "--output", tmp_path / "pack").exit_code == 0
    pack = json.loads((tmp_path / "pack" / "evidence.json").read_text(encoding="utf-8"))
    assert facts(pack, "accuracy")["windows"].startswith("fovea, ")
    assert "the rest of this pack with" not in missing(pack, "accuracy")


def change(metrics: dict[str, Any], what: str) -> None:
    (part,), record = metrics["sets"], metrics["record"]
    if what == "another model":
        record["engines"][0]["checkpoint_sha256"] = "0" * 64
    elif what == "no model":
        record["engines"] = []
    elif what == "another set":
        part["name"] = "roads"
    elif what == "other labels":
        part["frames"][0]["num_anomalous"] += 1
    elif what == "a foreign frame":
        part["frames"][0]["frame_id"] = "c"
        part["counts"]["c"] = part["counts"].pop("a")
    elif what == "a frame left out":
        del part["frames"][0], part["counts"]["a"]
    elif what == "damaged":
        part["scores"]["head"]["pixel"] = {"auprc": 1.0}


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("another model", "must be of the same model, its checkpoint_sha256 is '0000"),
        ("no model", "must name the model"),
        ("another set", "must be of the sets of --data, streets; it is of roads"),
        ("other labels", "frame a of streets are [[48, 64], 3072, 501]"),
        ("a foreign frame", "it has 1 frames of streets not, such as a"),
        ("a frame left out", "it has 1 frames of streets not, such as a"),
        ("damaged", "is damaged: KeyError 'best_threshold'"),
    ],
)
def test_a_foreign_evaluation_is_refused(
    what: str, told: str, streets: Path, tmp_path: Path, pack_of: Callable[..., Any], made: Made
) -> None:
    file = tmp_path / "metrics.json"
    metrics = json.loads((made[0] / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    change(metrics, what)
    file.write_text(json.dumps(metrics), encoding="utf-8")
    done = pack_of("--data", streets, "--evaluation", file, "--output", tmp_path / "new")
    assert isinstance(done.exception, ConfigError)
    assert told in str(done.exception)
    assert not list(tmp_path.glob("new/evidence.*"))


def test_a_model_that_fails_its_self_test_gets_no_pack(
    checkpoint: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    model = load_model(checkpoint)
    model.info["probe"]["scores"]["head"][0] += 9.0
    save_model(model, tmp_path / "other.safetensors", model.info["probe"])
    done = run("evidence", tmp_path / "other.safetensors", "--device", "cpu", "--output", tmp_path / "pack")
    assert isinstance(done.exception, InferenceError)
    assert not (tmp_path / "pack").exists()


def test_a_wrong_answer_of_any_score_is_found_before_the_evaluation(
    checkpoint: Path, streets: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    model = load_model(checkpoint)
    model.info["probe"]["scores"]["rba"][0] += 9.0
    save_model(model, tmp_path / "other.safetensors", model.info["probe"])
    arguments = ["--scores", "head,rba", "--data", streets, "--device", "cpu", "--precision", "fp32"]
    done = run("evidence", tmp_path / "other.safetensors", *arguments, "--output", tmp_path / "pack")
    assert isinstance(done.exception, InferenceError)
    assert "Score rba" in str(done.exception)
    assert not (tmp_path / "pack").exists()


def test_a_filled_folder_is_refused(
    tmp_path: Path, run: Callable[..., Any], made: Made, pack_of: Callable[..., Any]
) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(made[0], folder)
    done = pack_of("--output", folder)
    assert "the output folder must be empty" in str(done.exception)
    assert (folder / "evidence.json").read_bytes() == (made[0] / "evidence.json").read_bytes()
    assert pack_of("--output", folder, "--overwrite").exit_code == 0
    assert run("verify", folder).exit_code == 0
    assert not (folder / "evaluation" / "metrics.json").exists(), "the figures of the pack before are not of this one"


def test_images_that_cannot_be_read_are_named(streets: Path, tmp_path: Path, pack_of: Callable[..., Any]) -> None:
    roads = shutil.copytree(streets, tmp_path / "streets")
    (roads / "images" / "a.png").write_bytes(b"")
    done = pack_of("--data", roads, "--output", tmp_path / "pack")
    assert done.exit_code == 3, done.output
    pack = json.loads((tmp_path / "pack" / "evidence.json").read_text(encoding="utf-8"))
    (row,) = rows(pack, "accuracy", "Frames that could not be evaluated")
    assert (row["set"], row["frame"]) == ("streets", "a")
    assert "a.png is empty" in row["reason"]
    assert "1 frames could not be evaluated" in missing(pack, "accuracy")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file whose reading fails")
def test_files_whose_reading_fails_cost_no_pack(streets: Path, tmp_path: Path, pack_of: Callable[..., Any]) -> None:
    used, calibrated = (shutil.copytree(streets, tmp_path / name) for name in ("used", "calibrated"))
    for path in (used / "images" / "a.png", calibrated / "labels_masks" / "b.png", calibrated / "README.md"):
        path.unlink(missing_ok=True)
        path.symlink_to("/proc/self/mem")
    arguments = ["--data", used, "--calibration-data", calibrated, "--output", tmp_path / "pack"]
    done = pack_of(*arguments)
    assert done.exit_code == 3, done.output
    pack = json.loads((tmp_path / "pack" / "evidence.json").read_text(encoding="utf-8"))
    assert [(row["images"], row["labels"]) for row in rows(pack, "data", "Sets")] == [(1, 2), (2, 1)]
    assert f"1 files of used have no hash, such as: {used}/images/a.png cannot be read" in missing(pack, "data")
    assert "2 files of calibrated have no hash" in missing(pack, "data")
    assert "1 frames could not be evaluated" in missing(pack, "accuracy")


def test_verify_names_what_has_changed(made: Made, streets: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    folder = shutil.copytree(made[0], tmp_path / "moved")
    done = run("verify", folder, "--json")
    assert json.loads(done.stdout) == {"files": 10, "changes": []}, "model, 4 images and labels, and 5 of the pack"
    image = str(streets.resolve() / "images" / "a.png").encode()
    listed = (folder / "files.sha256").read_bytes()
    (folder / "files.sha256").write_bytes(listed.replace(image, image + b"x"))
    (folder / "evidence.html").write_text("all is well")
    done = run("verify", folder, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["changes"] == [f"{image.decode()}x: missing", "evidence.html: differs"]
    assert isinstance(run("verify", streets).exception, ConfigError)
