"""Linear layers in int8: quantise and dequantise operators around them, with ranges measured on images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_ext_core import windows as geometry
from eomt_ext_core.config import WindowConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.export.graph_layers import GraphLayers, run_between
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.extra import require


def quantise_linear(path: Path, crops: Iterable[Tensor], contents: ExportContents) -> None:
    """Turn the linear layers of the transformer blocks of a file to int8, in place; all else stays float32.

    Weights are symmetric with a scale for each output channel; inputs are uint8 with the range that they have on the
    windows given. Norms, softmax, GELU, attention products, the mask head and the scoring stay as they are: what a
    softmax or a norm gives does not fit 256 steps. Runtimes fuse the operators into products of integers.

    Args:
        path: an fp32 export.
        crops: windows (N, 3, h, w) uint8, as many as the file takes; at least one batch.
        contents: metadata of the result.

    Raises:
        ConfigError: if there are no windows or no such layers, or the extra ``export`` is not installed.
    """
    onnx = require("onnx", "export")
    layers = GraphLayers(path)
    linear = list(layers.linear())
    ranges = _ranges(layers, list(dict.fromkeys(node.input[0] for node in linear)), crops)
    if not ranges:
        raise ConfigError("precision int8 needs calibration images and a network with transformer blocks, got none")
    graph, constants = layers.proto.graph, {item.name: item for item in layers.proto.graph.initializer}
    before: dict[str, list[Any]] = {}
    for tensor, (low, high) in ranges.items():
        scale = np.float32(max(high - low, 1e-6) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        added = _rounded(onnx, tensor, tensor, scale, zero)
        graph.initializer.extend(added.constants)
        first = next(node for node in linear if node.input[0] == tensor)
        before[first.name] = added.nodes
    for node in linear:
        weight = constants[node.input[1]]
        added = _weights(onnx, weight, 0 if _is_transposed(node) else 1)
        graph.initializer.extend(added.constants)
        before.setdefault(node.name, []).extend(added.nodes)
        node.input[0], node.input[1] = f"{node.input[0]}_dequantised", added.nodes[-1].output[0]
    ordered = [part for node in graph.node for part in (*before.get(node.name, ()), node)]
    used = {name for node in ordered for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(ordered)
    graph.initializer.extend(kept)
    onnx.helper.set_model_props(layers.proto, contents.to_metadata())
    onnx.save(layers.proto, str(path))


class _Added:
    """Nodes and constants that are put into a graph."""

    def __init__(self, nodes: list[Any], constants: list[Any]) -> None:
        self.nodes, self.constants = nodes, constants


def _ranges(layers: GraphLayers, tensors: list[str], crops: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """Return the least and largest value of each tensor on all windows, and 0 if it is beyond."""
    ranges: dict[str, tuple[float, float]] = {}
    for values in run_between(layers, tensors, crops):
        for name, value in zip(tensors, values, strict=True):
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    return ranges


def _rounded(onnx: Any, name: str, source: str, scale: Any, zero: Any) -> _Added:
    """Round a computed tensor to uint8 and back."""
    make, constants = onnx.helper.make_node, [f"{name}_scale", f"{name}_zero"]
    nodes = [
        make("QuantizeLinear", [source, *constants], [f"{name}_quantised"], name=f"{name}_quantise"),
        make("DequantizeLinear", [f"{name}_quantised", *constants], [f"{name}_dequantised"], name=f"{name}_dequantise"),
    ]
    values = [
        onnx.numpy_helper.from_array(np.asarray(value), key)
        for key, value in zip(constants, (scale, zero), strict=True)
    ]
    return _Added(nodes, values)


def _weights(onnx: Any, weight: Any, axis: int) -> _Added:
    """Store constant weights as int8, with a scale for each output channel along ``axis``."""
    values: NDArray[np.float32] = onnx.numpy_helper.to_array(weight)
    scale = (np.maximum(np.abs(values).max(axis=1 - axis), 1e-12) / 127).astype(np.float32)
    rounded = np.clip(np.rint(values / np.expand_dims(scale, 1 - axis)), -127, 127).astype(np.int8)
    stored = {
        f"{weight.name}_int8": rounded,
        f"{weight.name}_scale": scale,
        f"{weight.name}_zero": np.zeros(len(scale), np.int8),
    }
    node = onnx.helper.make_node(
        "DequantizeLinear", list(stored), [f"{weight.name}_dequantised"], name=f"{weight.name}_dequantise", axis=axis
    )
    return _Added([node], [onnx.numpy_helper.from_array(value, name) for name, value in stored.items()])


def _is_transposed(node: Any) -> bool:
    return any(item.name == "transB" and item.i for item in node.attribute)


def windows_of(images: Iterable[NDArray[np.uint8]], crop_hw: tuple[int, int], batch: int) -> Iterator[Tensor]:
    """Cut images as the engine does by default.

    Args:
        images: (H, W, 3) uint8 each.
        crop_hw: size of a window in pixels.
        batch: windows in each result; 0 for one.

    Yields:
        (batch, 3, h, w) uint8: the windows of an image, repeated to fill the last batch.
    """
    for image in images:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        plan = geometry.plan(image.shape[:2], crop_hw, WindowConfig())
        crops = geometry.crop(geometry.resize(pixels, plan), plan)
        step = batch or 1
        for start in range(0, len(crops), step):
            yield crops[[(start + offset) % len(crops) for offset in range(step)]]
