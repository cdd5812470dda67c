"""Naming of the layer in which an exported graph and the engine part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eomt_ext_core.export.graph_layers import SCORING, GraphLayers, layer_of, run_between
from eomt_ext_core.export.program import ScoringProgram

# Largest difference of a layer's output that rounding explains, as a fraction of its largest value.
_ROUNDING = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.5}
_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm, nn.GELU)


def first_different_layer(path: Path, program: ScoringProgram, crops: Tensor, precision: str) -> str:
    """Name the first layer whose output differs by more than rounding; the scoring if it is no layer's.

    Args:
        path: an ONNX file that was just exported.
        program: what it was exported from, in float32.
        crops: windows (N, 3, h, w) uint8, as many as the file takes.
        precision: of the file.
    """
    layers = GraphLayers(path)
    last = {layer_of(node): node.output[0] for node in layers.nodes if node.op_type != "DequantizeLinear"}
    expected = _outputs(program, crops)
    names = [name for name in last if name in expected]  # in the order of the graph
    (results,) = run_between(layers, [last[name] for name in names], [crops])
    for name, found in zip(names, results, strict=True):
        wanted = expected[name]
        if found.shape == wanted.shape:
            allowed = _ROUNDING[precision] * max(float(np.abs(wanted).max()), 1e-6)
            if not float(np.abs(found - wanted).max()) <= allowed:  # a NaN is none
                return name
    return SCORING


def _outputs(program: ScoringProgram, crops: Tensor) -> dict[str, NDArray[np.float32]]:
    """Run a program and keep what each layer of its network gives."""
    outputs: dict[str, NDArray[np.float32]] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs[name] = output.detach().float().numpy()

        return hook

    found = [(name, module) for name, module in program.network.named_modules() if isinstance(module, _LAYERS)]
    handles = [module.register_forward_hook(keep(name)) for name, module in found]
    try:
        program(crops)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
