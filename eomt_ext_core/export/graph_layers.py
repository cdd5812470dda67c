"""The layers of an ONNX graph: which part of the network a node came from."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core.runtimes.exported_scorer import INPUT
from eomt_ext_core.runtimes.extra import require

SCORING = "scoring"
_SCOPES = "pkg.torch.onnx.name_scopes"  # written by torch.onnx: the modules around a node, outermost first
_BLOCKS = ".blocks."
_LINEAR = ("MatMul", "Gemm")


class GraphLayers:
    """An ONNX file by its layers.

    Args:
        path: a file that this package has just written: it is trusted.

    Attributes:
        proto: onnx's ``ModelProto``.
        shapes: shape of each constant, by name.
        types: ONNX's number of the type of each tensor whose type is stored, by name.
    """

    def __init__(self, path: Path) -> None:
        self.proto: Any = require("onnx", "export").load(str(path))
        graph = self.proto.graph
        self.shapes = {item.name: tuple(item.dims) for item in graph.initializer}
        known = [*graph.value_info, *graph.input, *graph.output]
        self.types = {item.name: int(item.type.tensor_type.elem_type) for item in known}
        self.types |= {item.name: int(item.data_type) for item in graph.initializer}

    @property
    def nodes(self) -> list[Any]:
        """The nodes, each after those that it needs."""
        return list(self.proto.graph.node)

    def makers(self) -> dict[str, Any]:
        """Return the node of each computed tensor, by the tensor's name."""
        return {name: node for node in self.nodes for name in node.output}

    def users(self, tensor: str) -> list[Any]:
        """Return the nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def is_linear(self, node: Any) -> bool:
        """Whether a node is a linear layer of a transformer block: a product with constant weights."""
        is_product = node.op_type in _LINEAR and _BLOCKS in layer_of(node)
        return is_product and len(self._weight_shape(node)) == 2

    def linear(self) -> Iterator[Any]:
        """Yield the linear layers of the transformer blocks."""
        return (node for node in self.nodes if self.is_linear(node))

    def _weight_shape(self, node: Any) -> tuple[int, ...]:
        """Return the shape of the constant factor of a product, quantised or not; empty if both are computed."""
        makers = self.makers() if any(name not in self.shapes for name in node.input[1:2]) else {}
        for name in node.input[:2]:
            maker = makers.get(name)
            source = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else name
            if source in self.shapes:
                return self.shapes[source]
        return ()


def layer_of(node: Any) -> str:
    """Return the innermost module of the network that a node belongs to; what belongs to none is the scoring."""
    for item in node.metadata_props:
        if item.key == _SCOPES:
            scopes: list[str] = ast.literal_eval(item.value)
            modules = [scope for scope in scopes if scope.startswith(("network.", "head."))]
            return modules[-1].removeprefix("network.") if modules else SCORING
    return SCORING


def run_between(
    layers: GraphLayers, tensors: Sequence[str], crops: Iterable[Tensor]
) -> Iterator[list[NDArray[np.float32]]]:
    """Run a graph in onnxruntime for tensors in the middle of it.

    Args:
        layers: the graph; does not change.
        tensors: names of computed tensors.
        crops: windows (N, 3, h, w) uint8 for each run.

    Yields:
        the tensors of each run.
    """
    onnx, onnxruntime = require("onnx", "export"), require("onnxruntime", "export")
    outputs = list(layers.proto.graph.output)
    del layers.proto.graph.output[:]
    layers.proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    data = layers.proto.SerializeToString()
    del layers.proto.graph.output[:]
    layers.proto.graph.output.extend(outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    del data
    for batch in crops:
        results = session.run(list(tensors), {INPUT: np.ascontiguousarray(batch)})
        yield [np.asarray(result, dtype=np.float32) for result in results]
