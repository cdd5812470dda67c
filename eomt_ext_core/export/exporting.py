"""Export of a model to a file that is compared with the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_ext_core.backends.device import choose_device
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError, InferenceError
from eomt_ext_core.export.check import Difference, Score, compare, probe_crops
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.faults import check_faults
from eomt_ext_core.export.int8 import quantise_linear, windows_of
from eomt_ext_core.export.locating import first_different_layer
from eomt_ext_core.export.onnx_file import write_onnx
from eomt_ext_core.export.program import ScoringProgram
from eomt_ext_core.export.pt2_file import Pt2Package, write_pt2
from eomt_ext_core.files import atomic_write
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.onnx_scorer import OnnxWindowScorer
from eomt_ext_core.scoring.uncertainty import BASELINES


def export_model(
    model: EoMTExt,
    path: str | Path,
    config: ExportConfig,
    origin: Mapping[str, str] | None = None,
    calibration: Iterable[NDArray[np.uint8]] = (),
    accept: Callable[[Path], None] | None = None,
) -> list[Difference]:
    """Export a model, and compare the file with the engine before it gets its name.

    Args:
        model: from :func:`~eomt_ext_core.model.checkpoint.load_model`; does not change.
        path: the file, ``.onnx`` or ``.pt2`` to match the format.
        config: settings of the export.
        origin: SHA-256 of the source files of the model, by name.
        calibration: images (H, W, 3) uint8 like those of the vehicle, for int8.
        accept: called with the file before it gets its name; what it raises discards the file.

    Returns:
        the difference of each output from the engine in float32.

    Raises:
        ConfigError: if the model lacks a score, or is too large for the format; or if int8 has no images.
        InferenceError: if the scores differ from the engine's, or the graph has a known fault; no file is left.
    """
    path = Path(path)
    config.check_target(path)
    contents = ExportContents(
        crop_hw=model.config.crop_hw,
        num_classes=model.config.num_classes,
        outputs=_outputs(model, config),
        precision=config.precision,
        score_stride=config.score_stride,
        batch=config.batch,
        info=model.info,
        origin=origin or {},
    )
    with atomic_write(path) as temporary, torch.inference_mode():
        if config.format == "onnx":
            differences = _write_onnx(model, contents, temporary, config.opset, calibration)
        else:
            device = choose_device(config.device)
            program = ScoringProgram(
                model, contents.outputs, half=config.precision == "fp16", score_stride=config.score_stride
            )
            write_pt2(program, contents, temporary, device)
            differences = _compare(model, contents, Pt2Package(temporary, str(device)))
        if accept is not None:
            accept(temporary)
        return differences


def _write_onnx(
    model: EoMTExt, contents: ExportContents, path: Path, opset: int, calibration: Iterable[NDArray[np.uint8]]
) -> list[Difference]:
    half, stride = contents.precision == "fp16", contents.score_stride
    program = ScoringProgram(model, contents.outputs, half=half, score_stride=stride)
    write_onnx(program, contents, path, opset)
    if contents.precision == "int8":
        quantise_linear(path, windows_of(calibration, contents.crop_hw, contents.batch), contents)
    check_faults(path, program)
    exported = OnnxWindowScorer.load(path, EngineConfig(device="cpu"))
    try:
        return _compare(model, contents, exported)
    except InferenceError as error:
        crops = probe_crops(contents.crop_hw, contents.batch or 1)
        exact = ScoringProgram(model, contents.outputs, score_stride=stride)
        layer = first_different_layer(path, exact, crops, contents.precision)
        raise InferenceError(f"{error}; the first layer that differs is {layer}") from error


def _compare(model: EoMTExt, contents: ExportContents, exported: Score) -> list[Difference]:
    reference = TorchWindowScorer(model, torch.device("cpu"), "fp32", "none", contents.score_stride)
    return compare(reference, exported, contents.outputs, contents.crop_hw, contents.batch, contents.precision)


def _outputs(model: EoMTExt, config: ExportConfig) -> tuple[str, ...]:
    has_head = model.anomaly_head is not None
    scores = config.scores or (("head",) if has_head else ("rba",))
    if "head" in scores and not has_head:
        raise ConfigError(
            "score 'head' needs a model with an anomaly head, this one has none: pass a head, or choose one of "
            f"{', '.join(BASELINES)}"
        )
    return (*scores, SEMANTIC) if config.semantic else scores
