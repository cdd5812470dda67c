"""Writing of ONNX files."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from eomt_ext_core.errors import ConfigError
from eomt_ext_core.export.program import ScoringProgram, trace
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.exported_scorer import INPUT
from eomt_ext_core.runtimes.extra import require

MOST_BYTES = 2 * 1000**3  # protobuf is limited to 2 GiB, and the graph itself needs some of it


def write_onnx(program: ScoringProgram, contents: ExportContents, path: Path, opset: int) -> None:
    """Write a program as one ONNX file, with the input ``crops`` and an output named after each score.

    Args:
        program: the network and its scoring.
        contents: metadata of the file.
        path: the file.
        opset: version of the ONNX operator set.

    Raises:
        ConfigError: if the weights are too large for one file, or the extra ``export`` is not installed.
    """
    size = sum(tensor.nbytes for tensor in program.state_dict().values())
    if size > MOST_BYTES:
        raise ConfigError(
            f"the weights in an ONNX file must have at most {MOST_BYTES / 1e9:.1f} GB, got {size / 1e9:.1f} GB: "
            "choose precision fp16, or format pt2"
        )
    for name in ("onnx", "onnxscript"):
        require(name, "export")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    exported = torch.onnx.export(
        trace(program, contents.batch, torch.device("cpu")),
        dynamo=True,
        opset_version=opset,
        input_names=[INPUT],
        output_names=list(contents.outputs),
        verbose=False,
    )
    if exported is None:
        raise RuntimeError("torch.onnx.export returned no program")
    exported.model.metadata_props.update(contents.to_metadata())
    exported.save(path, external_data=False)
