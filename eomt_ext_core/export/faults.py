"""Checks of an ONNX graph for what breaks silently: a network that runs, and sees less."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from eomt_ext_core.errors import InferenceError
from eomt_ext_core.export.graph_layers import GraphLayers, layer_of
from eomt_ext_core.export.program import ScoringProgram
from eomt_ext_core.runtimes.extra import require

FORCED = 1500.0  # the size of activations in large ViTs; its square overflows float16
_TOLERANCE = 0.02  # of normalised values, whose deviation is 1
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
_EXACT_RESIZE = {"mode": (b"linear",), "coordinate_transformation_mode": (b"half_pixel", b"pytorch_half_pixel")}


def check_faults(path: Path, program: ScoringProgram) -> None:
    """Check the parts of a graph that are known to break without an error.

    An attention's softmax must be one operator, as large logits overflow if it is spelled out. Its result must not be
    int8, as small probabilities become 0. Only linear layers may be int8. Resizing must be bilinear with half-pixel
    centres. Each norm is run by itself, on activations of ±1500: a norm in half precision overflows there if it is
    spelled out.

    Args:
        path: an ONNX file that was just exported.
        program: what it was exported from.

    Raises:
        InferenceError: naming the layer and the fault.
    """
    layers = GraphLayers(path)
    _check_softmax(layers)
    _check_int8(layers)
    _check_resizing(layers)
    _check_norms(layers, program)


def refusal(layer: str, fault: str) -> InferenceError:
    """Make the error that refuses a file for a fault in a layer."""
    return InferenceError(f"the exported file is discarded: layer {layer}: {fault}")


def _check_softmax(layers: GraphLayers) -> None:
    for node in layers.nodes:
        if node.op_type == "Exp" and ".attn" in layer_of(node):
            raise refusal(layer_of(node), "its softmax is spelled out, and overflows for large logits")


def _check_int8(layers: GraphLayers) -> None:
    """Refuse int8 values that anything but a linear layer reads, or that a softmax gives."""
    makers = layers.makers()
    for node in layers.nodes:
        if node.op_type == "QuantizeLinear" and (maker := makers.get(node.input[0])) is not None:
            if maker.op_type == "Softmax":
                raise refusal(layer_of(maker), "int8 on softmax, whose small probabilities become 0")
        elif node.op_type == "DequantizeLinear":
            for user in layers.users(node.output[0]):
                if not layers.is_linear(user):
                    raise refusal(layer_of(user), f"int8 on {user.op_type}: only linear layers may be int8")


def _check_resizing(layers: GraphLayers) -> None:
    for node in layers.nodes:
        if node.op_type != "Resize":
            continue
        found = {item.name: item for item in node.attribute}
        for name, allowed in _EXACT_RESIZE.items():
            value = found[name].s if name in found else b"nearest" if name == "mode" else b"half_pixel"
            if value not in allowed:
                raise refusal(
                    f"{layer_of(node)} ({node.name})",
                    f"wrong resize rule, {name} {value.decode()}: it must be {allowed[0].decode()}",
                )


class _Norm(NamedTuple):
    """A use of a norm in the graph: its layer, its nodes, and the tensors that it reads and gives."""

    layer: str
    nodes: list[Any]
    source: str
    result: str


def _check_norms(layers: GraphLayers, program: ScoringProgram) -> None:
    """Run all norms at once, each on its own activations, and compare them with torch in float32."""
    modules = {
        name.removeprefix("network."): module
        for name, module in program.named_modules()
        if isinstance(module, nn.LayerNorm)
    }
    uses = {name: _uses(layers, name) for name in modules}
    nameless = [name for name, found in uses.items() if not found]  # blocks with masked attention lose their names
    if nameless and sum(node.op_type == "LayerNormalization" for node in layers.nodes) < len(modules):
        raise refusal(nameless[0], "its norm is not in the graph as a whole")
    norms = [use for found in uses.values() for use in found]
    evaluator, dtypes = _evaluator_of(layers, norms)
    forced: dict[str, NDArray[np.float32]] = {}
    for seed, norm in enumerate(norms):  # several may read the same tensor
        forced.setdefault(norm.source, _forced(int(modules[norm.layer].normalized_shape[0]), seed))
    with np.errstate(all="ignore"):  # overflow is what is looked for
        feeds = {source: values.astype(dtypes[source]) for source, values in forced.items()}
        results = evaluator.run([norm.result for norm in norms], feeds)
    for norm, found in zip(norms, results, strict=True):
        module = modules[norm.layer]
        weight, bias = (part.detach().float().cpu() for part in (module.weight, module.bias))
        values = torch.from_numpy(forced[norm.source])
        expected = F.layer_norm(values, list(weight.shape), weight, bias, module.eps).numpy()
        off = np.abs(found.astype(np.float32) - expected)
        if not float(off.max()) <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):  # a NaN is none
            raise refusal(
                norm.layer,
                f"its norm breaks for activations of ±{FORCED:g} ({_spelling(norm.nodes)}): keep LayerNormalization "
                "whole (opset 17 or later), or in float32",
            )


def _uses(layers: GraphLayers, name: str) -> list[_Norm]:
    """Find each use of a norm, as nodes that hang together; masked attention uses the last norm several times."""
    groups: list[list[Any]] = []
    for node in layers.nodes:
        if layer_of(node) != name or node.op_type == "Transpose":
            continue
        if groups and not {made for other in groups[-1] for made in other.output}.isdisjoint(node.input):
            groups[-1].append(node)
        else:
            groups.append([node])
    return [_Norm(name, nodes, *_boundary(layers, nodes)) for nodes in groups]


def _forced(width: int, seed: int) -> NDArray[np.float32]:
    """Make two tokens of (1, 2, width) values around ±1500."""
    chance = np.random.default_rng(seed)
    signs = chance.choice([-1.0, 1.0], (1, 2, width))
    return (signs * FORCED * chance.uniform(0.9, 1.1, (1, 2, width))).astype(np.float32)


def _boundary(layers: GraphLayers, nodes: list[Any]) -> tuple[str, str]:
    """Return the one computed tensor that nodes read from outside, and the one that is read outside of them."""
    inner = {name for node in nodes for name in node.output}
    read = [name for node in nodes for name in node.input if name and name not in inner and name not in layers.shapes]
    outside = {name for node in layers.nodes if node not in nodes for name in node.input}
    given = [name for node in nodes for name in node.output if name in outside]
    return read[0], given[-1]


def _evaluator_of(layers: GraphLayers, norms: list[_Norm]) -> tuple[Any, dict[str, Any]]:
    """Make an evaluator of norms that rounds as the graph says, and the types of its inputs.

    onnxruntime would not do: on a CPU it computes half precision in single precision, and puts a norm that is spelled
    out together again.
    """
    onnx, reference = require("onnx", "export"), require("onnx.reference", "export")

    class LayerNormalization(require("onnx.reference.op_run", "export").OpRun):  # type: ignore[misc]
        """The whole operator, in the type of its attribute; onnx's own uses that of the input."""

        def _run(self, x: Any, scale: Any, bias: Any, **options: Any) -> tuple[Any]:
            kind = np.float32 if options["stash_type"] == onnx.TensorProto.FLOAT else x.dtype
            inner = x.astype(kind)
            centred = inner - inner.mean(-1, keepdims=True, dtype=kind)
            variance = np.square(centred).mean(-1, keepdims=True, dtype=kind)
            normal = (centred / np.sqrt(variance + kind(options["epsilon"]))).astype(x.dtype)
            return (normal * scale + bias,)

    nodes = [node for norm in norms for node in norm.nodes]
    helper, used = onnx.helper, {name for node in nodes for name in node.input}
    kinds = {norm.source: layers.types.get(norm.source, onnx.TensorProto.FLOAT) for norm in norms}
    graph = helper.make_graph(
        nodes,
        "norms",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [helper.make_empty_tensor_value_info(norm.result) for norm in norms],
        [item for item in layers.proto.graph.initializer if item.name in used],
    )
    model = helper.make_model(graph, opset_imports=layers.proto.opset_import, ir_version=layers.proto.ir_version)
    evaluator = reference.ReferenceEvaluator(model, new_ops=[LayerNormalization])
    return evaluator, {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in kinds.items()}


def _spelling(nodes: list[Any]) -> str:
    return ", ".join(dict.fromkeys(node.op_type for node in nodes if node.op_type not in _QUANTISING))
