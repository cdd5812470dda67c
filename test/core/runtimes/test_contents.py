import json
from dataclasses import replace
from typing import Any

import pytest

from eomt_ext_core import CheckpointError
from eomt_ext_core.runtimes.contents import ExportContents

CONTENTS = ExportContents(
    crop_hw=(64, 96),
    num_classes=2,
    outputs=("head", "msp", "semantic"),
    precision="fp16",
    score_stride=2,
    batch=0,
    info={"class_names": ["Straße", "car"], "calibration": {"scale": 0.1, "shift": -2.0, "threshold": 0.25}},
    origin={"checkpoint_sha256": "ab" * 32},
)


def test_everything_comes_back() -> None:
    metadata = CONTENTS.to_metadata()
    assert ExportContents.of(metadata) == CONTENTS
    assert ExportContents.of({**metadata, "producer": "someone"}) == CONTENTS
    assert json.loads(metadata["eomt_ext.crop_hw"]) == [64, 96]
    assert CONTENTS.scores == ("head", "msp")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eomt_ext.version": None}, "not written by `eomt-ext export`"),
        ({"eomt_ext.version": "2"}, "version must be 1, got 2"),
        ({"eomt_ext.batch": None}, "eomt_ext.batch"),
        ({"eomt_ext.info": "{"}, "cannot be read"),
        ({"eomt_ext.info": "[]"}, "info must be a mapping"),
        ({"eomt_ext.info": '{"x": NaN}'}, "NaN is not JSON"),
        ({"eomt_ext.info": '{"class_names": ["road"]}'}, "class_names must be 2 texts"),
        ({"eomt_ext.info": '{"calibration": 1}'}, "calibration of score head: a calibration must have"),
        (
            {"eomt_ext.info": '{"score_calibrations": {"rba": {"scale": 0, "shift": 0, "threshold": 0.5}}}'},
            "calibration of score rba: a calibration's scale must be positive",
        ),
        ({"eomt_ext.info": "[" * 100_000}, "cannot be read"),
        ({"eomt_ext.crop_hw": "7"}, "crop_hw must be a list, got 7"),
        ({"eomt_ext.crop_hw": '{"64": 1, "96": 2}'}, "crop_hw must be a list"),
        ({"eomt_ext.crop_hw": "[32768, 32768]"}, "crop_hw cannot be"),
        ({"eomt_ext.crop_hw": "[64]"}, "crop_hw cannot be"),
        ({"eomt_ext.crop_hw": '["64", 96]'}, "crop_hw cannot be"),
        ({"eomt_ext.num_classes": "0"}, "num_classes cannot be 0"),
        ({"eomt_ext.num_classes": "true"}, "num_classes cannot be True"),
        ({"eomt_ext.num_classes": "100000"}, "num_classes cannot be 100000"),
        ({"eomt_ext.outputs": '[["head"]]'}, "outputs cannot be"),
        ({"eomt_ext.outputs": '["head", "head"]'}, "outputs cannot be"),
        ({"eomt_ext.outputs": '["nonsense"]'}, "outputs cannot be"),
        ({"eomt_ext.outputs": "[]"}, "outputs cannot be"),
        ({"eomt_ext.precision": '"int4"'}, "precision cannot be"),
        ({"eomt_ext.score_stride": "3"}, "score_stride cannot be"),
        ({"eomt_ext.score_stride": "true"}, "score_stride cannot be"),
        ({"eomt_ext.batch": "-1"}, "batch cannot be"),
        ({"eomt_ext.batch": "false"}, "batch cannot be"),
        ({"eomt_ext.batch": "1000000"}, "batch cannot be"),
        ({"eomt_ext.origin": '"x"'}, "origin must be a mapping"),
        ({"eomt_ext.origin": '{"a": 1}'}, "origin must be texts of at most 200 printable characters, got 1"),
    ],
)
def test_a_foreign_newer_or_damaged_file_is_named(change: dict[str, Any], message: str) -> None:
    metadata = {name: text for name, text in {**CONTENTS.to_metadata(), **change}.items() if text is not None}
    with pytest.raises(CheckpointError, match=message):
        ExportContents.of(metadata)


def test_info_must_be_json() -> None:
    with pytest.raises(CheckpointError, match="JSON"):
        replace(CONTENTS, info={"when": object()}).to_metadata()
