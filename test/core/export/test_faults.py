"""Faults that are put into an exported graph, each refused with the name of its layer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eomt_ext_core import EoMTExt, InferenceError
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.export import exporting
from eomt_ext_core.export.check import probe_crops
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.exporting import export_model
from eomt_ext_core.export.faults import check_faults
from eomt_ext_core.export.graph_layers import GraphLayers, layer_of
from eomt_ext_core.export.int8 import quantise_linear
from eomt_ext_core.export.program import ScoringProgram
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.onnx_scorer import OnnxWindowScorer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NORM = "encoder.backbone.blocks.1.norm2"
ATTENTION = "encoder.backbone.blocks.0.attn"
PATCHES = "encoder.backbone.patch_embed.proj"


def node_of(model: Any, layer: str, kind: str) -> Any:
    return next(node for node in model.graph.node if layer_of(node) == layer and node.op_type == kind)


def put(model: Any, place: Any, nodes: list[Any], *, instead: bool = False) -> None:
    """Put nodes after another one, or in its place, as parts of its layer."""
    ordered = []
    for node in model.graph.node:
        if not (instead and node.name == place.name):
            ordered.append(node)
        if node.name == place.name:
            for added in nodes:
                added.metadata_props.extend(place.metadata_props)
            ordered += nodes
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def spell_out_a_norm(model: Any) -> None:
    """What exporters below opset 17 do, in half precision: the square of 1500 is infinite."""
    norm, make = node_of(model, NORM, "LayerNormalization"), onnx.helper.make_node
    axes = onnx.numpy_helper.from_array(np.array([-1]), "axes")
    tiny = onnx.numpy_helper.from_array(np.float16(1e-6), "tiny")
    model.graph.initializer.extend([axes, tiny])
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    source, weight, bias = norm.input
    nodes = [
        make("Cast", [source], ["s_half"], to=half),
        make("ReduceMean", ["s_half", "axes"], ["s_mean"]),
        make("Sub", ["s_half", "s_mean"], ["s_centred"]),
        make("Mul", ["s_centred", "s_centred"], ["s_square"]),
        make("ReduceMean", ["s_square", "axes"], ["s_variance"]),
        make("Add", ["s_variance", "tiny"], ["s_safe"]),
        make("Sqrt", ["s_safe"], ["s_deviation"]),
        make("Div", ["s_centred", "s_deviation"], ["s_normal"]),
        make("Cast", ["s_normal"], ["s_single"], to=single),
        make("Mul", ["s_single", weight], ["s_scaled"]),
        make("Add", ["s_scaled", bias], [norm.output[0]]),
    ]
    put(model, norm, nodes, instead=True)


def round_a_softmax(model: Any) -> None:
    softmax, make = node_of(model, ATTENTION, "Softmax"), onnx.helper.make_node
    result = softmax.output[0]
    softmax.output[0] = "probabilities"
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.float32(1 / 255), "q_scale"),
            onnx.numpy_helper.from_array(np.uint8(0), "q_zero"),
        ]
    )
    nodes = [
        make("QuantizeLinear", ["probabilities", "q_scale", "q_zero"], ["q"]),
        make("DequantizeLinear", ["q", "q_scale", "q_zero"], [result]),
    ]
    put(model, softmax, nodes)


def spell_out_a_softmax(model: Any) -> None:
    softmax, make = node_of(model, ATTENTION, "Softmax"), onnx.helper.make_node
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "last"))
    nodes = [
        make("Exp", [softmax.input[0]], ["powers"]),
        make("ReduceSum", ["powers", "last"], ["total"]),
        make("Div", ["powers", "total"], [softmax.output[0]]),
    ]
    put(model, softmax, nodes, instead=True)


def change_the_resizing(model: Any) -> None:
    for item in next(node for node in model.graph.node if node.op_type == "Resize").attribute:
        if item.name == "coordinate_transformation_mode":
            item.s = b"align_corners"


@pytest.mark.parametrize(
    ("inject", "told"),
    [
        (spell_out_a_norm, rf"layer {NORM}: its norm breaks for activations of ±1500 \(Cast, ReduceMean, Sub"),
        (round_a_softmax, f"layer {ATTENTION}: int8 on softmax"),
        (spell_out_a_softmax, f"layer {ATTENTION}: its softmax is spelled out"),
        (change_the_resizing, r"layer scoring .*: wrong resize rule, .*_mode align_corners: it must be half_pixel"),
    ],
)
def test_a_fault_is_refused_with_its_layer(
    small_model: EoMTExt, onnx_file: Path, tmp_path: Path, inject: Callable[[Any], None], told: str
) -> None:
    program = ScoringProgram(small_model, ("head",))
    check_faults(onnx_file, program)  # is right as it is
    model = onnx.load(onnx_file)
    inject(model)
    onnx.save(model, tmp_path / "faulty.onnx")
    with pytest.raises(InferenceError, match=told):
        check_faults(tmp_path / "faulty.onnx", program)


def swap_channels(path: Path) -> None:
    model = onnx.load(path)
    first = next(node for node in model.graph.node if "crops" in node.input)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    swap = onnx.helper.make_node("Gather", ["crops", "order"], ["swapped"], axis=1)
    for node in model.graph.node:
        node.input[:] = ["swapped" if name == "crops" else name for name in node.input]
    model.graph.node.insert(list(model.graph.node).index(first), swap)
    onnx.save(model, path)


def damage_a_layer(path: Path) -> None:
    model = onnx.load(path)
    bias = next(item for item in model.graph.initializer if item.name.endswith("blocks.1.mlp.fc1.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 9, bias.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (swap_channels, f"red and blue are swapped.*first layer that differs is {PATCHES}"),
        (damage_a_layer, r"differs from the engine in head by .*first layer that differs is .*blocks\.1\.mlp\.fc1$"),
    ],
)
def test_what_only_the_scores_show_is_refused_with_its_layer(
    small_model: EoMTExt,
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    told: str,
) -> None:
    def write(program: ScoringProgram, contents: ExportContents, path: Path, opset: int) -> None:
        path.write_bytes(onnx_file.read_bytes())  # head, rba and classes
        damage(path)

    monkeypatch.setattr(exporting, "write_onnx", write)
    with pytest.raises(InferenceError, match=told):
        export_model(small_model, tmp_path / "x.onnx", ExportConfig(scores=("head", "rba"), semantic=True))
    assert list(tmp_path.iterdir()) == []


def test_linear_layers_alone_become_int8(small_model: EoMTExt, onnx_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    path.write_bytes(onnx_file.read_bytes())
    exact = ExportContents.of({item.key: item.value for item in onnx.load(path).metadata_props})
    crops = probe_crops(exact.crop_hw, 3)
    quantise_linear(path, torch.split(crops, 1), replace(exact, precision="int8"))
    layers = GraphLayers(path)
    assert sum(1 for _ in layers.linear()) == 8  # qkv, proj, fc1, fc2 of two blocks
    assert {node.op_type for node in layers.nodes if "_quantise" in node.name} == {"QuantizeLinear"}
    check_faults(path, ScoringProgram(small_model, ("head",)))
    assert path.stat().st_size < onnx_file.stat().st_size
    rounded, scorer = (OnnxWindowScorer.load(file, EngineConfig(device="cpu")) for file in (path, onnx_file))
    assert rounded.precision == "int8"
    difference = rounded(crops, ("head",)) - scorer(crops, ("head",))
    assert 0 < difference.square().mean().sqrt() < 0.2 * scorer(crops, ("head",)).std()
