"""What the pack says of the files of a model, of its makers, and of how to calibrate it."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from eomt_ext_core.evidence.model_part import calibration_part, provenance_part, weight_files

FACTS = {"file": "/models/street.safetensors", "sha256": "0" * 64}


def names(folder: Path, checkpoint: str) -> list[str]:
    return [file.path.name for file in weight_files(folder / checkpoint, None)]


def test_settings_that_are_not_read_are_none_of_the_model(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_bytes(checkpoint.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "train_config.json").mkdir()
    (tmp_path / "other_config.json").symlink_to("nowhere")
    assert names(tmp_path, "own.safetensors") == ["own.safetensors"]


def test_shards_and_settings_that_are_read_are_of_the_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64}
    config = transformers.EomtConfig(**sizes, num_blocks=2, num_queries=7)
    transformers.EomtForUniversalSegmentation(config).save_pretrained(tmp_path, max_shard_size="60KB")
    shards = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))
    for other in ("preprocessor_config.json", "generation_config.json"):
        (tmp_path / other).write_text("{}")
    (tmp_path / "other.safetensors").write_bytes(b"x")
    index = "model.safetensors.index.json"
    assert len(shards) > 1
    assert names(tmp_path, index) == [index, *shards, "config.json", "preprocessor_config.json"]


@pytest.mark.parametrize("earlier", [5, "text", {"command": "x"}, None])
def test_records_that_are_no_list_are_none(earlier: Any) -> None:
    facts = FACTS | {"earlier_records": earlier, "record": {"command": "convert"}}
    (table,) = provenance_part(facts).tables
    assert [row[0] for row in table.rows] == ["convert"]


@pytest.mark.parametrize("given", ["demo", "hf://owner/name", "models/my street.safetensors"])
def test_the_way_to_a_calibration_is_a_command_as_it_was_called(given: str) -> None:
    (missing,) = calibration_part(FACTS, ["rba"], given).missing
    command = ["eomt-ext", "calibrate", given, "--scores", "rba", "--data", "FOLDER", "--output", "FILE"]
    assert shlex.split(missing.way_out) == command


def test_the_way_to_a_calibration_names_a_separate_head() -> None:
    (missing,) = calibration_part(FACTS, ["head"], "street.bin", Path("my heads/h.safetensors")).missing
    assert shlex.split(missing.way_out)[2:5] == ["street.bin", "--head", "my heads/h.safetensors"]
