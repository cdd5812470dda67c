import json
from dataclasses import replace
from typing import Any

import pytest

from eomt_ext_core import CheckpointError
from eomt_ext_core.export.contents import ExportContents

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
        ({"eomt_ext.info": "[]"}, "info cannot be"),
        ({"eomt_ext.crop_hw": "7"}, "cannot be read"),
        ({"eomt_ext.crop_hw": "[64]"}, "crop_hw cannot be"),
        ({"eomt_ext.crop_hw": '["64", 96]'}, "crop_hw cannot be"),
        ({"eomt_ext.num_classes": "0"}, "num_classes cannot be 0"),
        ({"eomt_ext.num_classes": "true"}, "num_classes cannot be True"),
        ({"eomt_ext.outputs": '["nonsense"]'}, "outputs cannot be"),
        ({"eomt_ext.outputs": "[]"}, "outputs cannot be"),
        ({"eomt_ext.precision": '"int8"'}, "precision cannot be"),
        ({"eomt_ext.score_stride": "3"}, "score_stride cannot be"),
        ({"eomt_ext.batch": "-1"}, "batch cannot be"),
        ({"eomt_ext.origin": '"x"'}, "origin cannot be"),
    ],
)
def test_a_foreign_newer_or_damaged_file_is_named(change: dict[str, Any], message: str) -> None:
    metadata = {name: text for name, text in {**CONTENTS.to_metadata(), **change}.items() if text is not None}
    with pytest.raises(CheckpointError, match=message):
        ExportContents.of(metadata)


def test_info_must_be_json() -> None:
    with pytest.raises(CheckpointError, match="JSON"):
        replace(CONTENTS, info={"when": object()}).to_metadata()
