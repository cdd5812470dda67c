import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eomt_ext_core import CheckpointError, load_model, save_model
from eomt_ext_core.model.metadata import MOST_BYTES, MOST_TEXT, check_info, check_origin, read_json, write_json

CALIBRATION = {"scale": 0.1, "shift": -2.3, "threshold": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("", "cannot be read"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', r"numbers between -2\^63 and 2\^63"),
        (f'{{"a": {10**30}}}', r"numbers between -2\^63 and 2\^63"),
        ("1" * 10_000, "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[" * 20 + "]" * 20, "nested at most 16 deep"),
        (json.dumps({"a": ["x" * (MOST_TEXT + 1)]}), f"at most {MOST_TEXT} characters, got {MOST_TEXT + 1}"),
        (json.dumps({"x" * (MOST_TEXT + 1): 1}), f"at most {MOST_TEXT} characters"),
        (json.dumps("x" * MOST_BYTES), f"at most {MOST_BYTES} bytes"),
        (r'"\ud800"', "must be valid Unicode"),
    ],
    ids=range(13),
)
def test_what_is_no_json_of_ours_is_refused(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_json(text)
    with pytest.raises(CheckpointError, match=message):
        read_json(text.encode())


def test_what_is_written_is_read() -> None:
    value = {"name": "Straße", "numbers": [1, -2.5, 1 << 60], "yes": True, "none": None, "deep": {"a": [[[]]]}}
    assert read_json(write_json(value)) == value


@pytest.mark.parametrize(
    "value", [{"a": float("nan")}, {"a": float("inf")}, {"a": {1, 2}}, {"a": "x" * 20_000}, "\ud800"]
)
def test_what_could_not_be_read_is_not_written(value: object) -> None:
    with pytest.raises(CheckpointError):
        write_json(value)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ([], "info must be a mapping, got list"),
        (None, "info must be a mapping, got NoneType"),
        ({"class_names": ["road"]}, "class_names must be 2 texts"),
        ({"class_names": ["road", 7]}, "class_names must be 2 texts"),
        ({"class_names": ["road", "x" * 201]}, "of at most 200 characters"),
        ({"class_names": ["road", "new\nline"]}, "class_names must be 2 texts"),
        ({"class_names": "ab"}, "class_names must be 2 texts"),
        ({"class_names": None}, "class_names must be 2 texts"),
        ({"class_names": {"road": 0, "car": 1}}, "class_names must be 2 texts"),
        ({"calibration": {"scale": 1.0}}, "must have scale, shift and threshold"),
        ({"calibration": CALIBRATION | {"shift": "0"}}, "shift must be a finite number, got '0'"),
    ],
)
def test_info_that_a_reader_could_stumble_over_is_refused(info: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_info(info, 2)


def test_info_of_a_checkpoint() -> None:
    info = {"class_names": ["road", "car"], "calibration": CALIBRATION, "anything": {"else": [1]}}
    assert check_info(info, 2) == info
    assert check_info({"class_names": []}, 2) == {"class_names": []}


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"a": 1}, "texts of at most 200 printable characters, got 1"),
        ({"a": None}, "got None"),
        ({"a": ["b"]}, "got"),
        ({1: "b"}, "got 1"),
        ({"a": "x" * 201}, "at most 200"),
        ({"a": "\x1b[2J"}, "printable"),
        (["a"], "must be a mapping of texts, got list"),
        ({str(number): "x" for number in range(17)}, "at most 16 entries, got 17"),
    ],
)
def test_an_origin_is_short_texts_by_name(origin: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_origin(origin)
    assert check_origin({"checkpoint_sha256": "5" * 64}) == {"checkpoint_sha256": "5" * 64}


@pytest.mark.parametrize(
    "info", [{"class_names": ["road"]}, {"calibration": {}}, {"x": float("nan")}, {"x": "y" * 20_000}]
)
def test_unloadable_info_is_not_saved(tiny_model: Callable[..., Any], tmp_path: Path, info: dict[str, Any]) -> None:
    model = tiny_model()
    model.info = info
    with pytest.raises(CheckpointError, match=r"m\.safetensors: "):
        save_model(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_one_printable_line_of_bounded_length(tmp_path: Path) -> None:
    path = tmp_path / "m\x1b[2J\n\udce9.bin"
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert r"m\x1b[2J\n\udce9.bin: no such file" in str(caught.value)
    assert str(CheckpointError("x" * 100_000)) == "x" * 2000 + "…"
