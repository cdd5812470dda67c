"""Export of a model to a file that is compared with the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from eomt_ext_core.backends.device import choose_device
from eomt_ext_core.backends.torch_scorer import TorchWindowScorer
from eomt_ext_core.backends.window_scorer import SEMANTIC
from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.export.check import Difference, Score, compare
from eomt_ext_core.export.export_config import ExportConfig
from eomt_ext_core.export.onnx_file import write_onnx
from eomt_ext_core.export.program import ScoringProgram
from eomt_ext_core.export.pt2_file import Pt2Package, write_pt2
from eomt_ext_core.files import atomic_write
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.onnx_scorer import OnnxWindowScorer
from eomt_ext_core.scoring.uncertainty import BASELINES


def export_model(
    model: EoMTExt, path: str | Path, config: ExportConfig, origin: Mapping[str, str] | None = None
) -> list[Difference]:
    """Export a model, and compare the file with the engine before it gets its name.

    Args:
        model: from :func:`~eomt_ext_core.model.checkpoint.load_model`; does not change.
        path: the file, ``.onnx`` or ``.pt2`` to match the format.
        config: settings of the export.
        origin: SHA-256 of the source files of the model, by name.

    Returns:
        the difference of each output from the engine in float32.

    Raises:
        ConfigError: if the model lacks a score, or is too large for the format.
        InferenceError: if the scores differ from the engine's; no file is left.
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
    device = choose_device(config.device)
    program = ScoringProgram(model, contents.outputs, half=config.precision == "fp16", score_stride=config.score_stride)
    reference = TorchWindowScorer(model, torch.device("cpu"), "fp32", "none", config.score_stride)
    with atomic_write(path) as temporary, torch.inference_mode():
        exported: Score
        if config.format == "onnx":
            write_onnx(program, contents, temporary, config.opset)
            exported = OnnxWindowScorer.load(temporary, EngineConfig(device="cpu"))
        else:
            write_pt2(program, contents, temporary, device)
            exported = Pt2Package(temporary, device)
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
