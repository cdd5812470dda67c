"""ONNX files that mean harm, through the loader that people's files go through."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eomt_ext_core import AnomalyEngine, CheckpointError, EngineConfig
from eomt_ext_core.runtimes.onnx_check import check_onnx
from eomt_ext_core.runtimes.onnx_scorer import OnnxWindowScorer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ON_CPU = EngineConfig(device="cpu", backend="onnxruntime")


@pytest.fixture
def changed(onnx_file: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """The exported file, changed."""

    def make(change: Callable[[Any], None]) -> Path:
        model = onnx.load(onnx_file)
        change(model)
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def refer(tensor: Any, location: str = "secret.bin") -> None:
    """Leave a tensor's numbers in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def refer_in_a_subgraph(model: Any) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    refer(tensor)
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    output = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1])
    branch = onnx.helper.make_graph([constant], "branch", [], [output])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def foreign_operator(model: Any) -> None:
    node = onnx.helper.make_node("EPContext", [], ["z"], domain="com.microsoft", ep_cache_context="/etc/passwd")
    model.graph.node.append(node)


def location_alone(model: Any) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: refer(model.graph.initializer[0]), "refers to another file"),
        (lambda model: refer(model.graph.initializer[0], "/etc/passwd"), "refers to another file"),
        (location_alone, "refers to another file"),
        (refer_in_a_subgraph, "refers to another file"),
        (foreign_operator, "operators must be ONNX's own, got some of b'com.microsoft'"),
    ],
)
def test_no_other_file_is_read(
    changed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("it reached onnxruntime"))
    with pytest.raises(CheckpointError, match=rf"changed\.onnx: .*{message}"):
        OnnxWindowScorer.load(changed(change), ON_CPU)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 20, b"\x3a\x05\x0a", b"\x3b", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x04\x0a\x02\x3a\x7f", b"\x38"],
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match="not an ONNX file"):
        check_onnx(tmp_path / "m.onnx")


def test_graphs_in_graphs_without_an_end_are_refused(tmp_path: Path) -> None:
    message = b""
    for _ in range(20):  # graph, node, attribute, graph …
        for field in (6, 5, 1):
            message = bytes([field << 3 | 2]) + varint(len(message)) + message
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + varint(len(message)) + message)
    with pytest.raises(CheckpointError, match="nested more than 32 deep"):
        check_onnx(tmp_path / "m.onnx")


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def set_metadata(name: str, text: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(item for item in model.metadata_props if item.key == f"eomt_ext.{name}").value = text

    return change


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("origin", '{"a": 1}', "origin must be texts"),
        ("info", '{"class_names": [1, 2, 3, 4, 5]}', "class_names must be 5 texts"),
        ("crop_hw", "[64, 128]", r"inputs must be .*\[None, 3, 64, 128\].* got .*\[None, 3, 64, 96\]"),
        ("batch", "2", r"inputs must be .*\[2, 3, 64, 96\].* got .*\[None, 3, 64, 96\]"),
        ("num_classes", "7", "class_names must be 7 texts"),
        ("outputs", '["head", "rba"]', "outputs must be .* got .*semantic"),
        ("outputs", '["head", "msp", "semantic"]', "outputs must be .*msp.* got .*rba"),
    ],
)
def test_file_that_contradicts_its_metadata_is_refused(
    changed: Callable[..., Path], name: str, text: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"changed\.onnx: .*{message}"):
        AnomalyEngine.load(changed(set_metadata(name, text)), ON_CPU)
