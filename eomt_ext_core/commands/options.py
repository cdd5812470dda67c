"""Options shared by several commands of ``eomt-ext``: one name and one explanation each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eomt_ext_core.config import ALL_SCORES, BACKENDS, LABEL_VALUES_HELP, SCORES
from eomt_ext_core.errors import ConfigError

Checkpoint = Annotated[
    str, typer.Option("--checkpoint", help="model: file, folder, hf://owner/name, an export, or demo, the built-in one")
]
Output = Annotated[Path, typer.Option("--output", help="folder for the results")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace earlier results at --output")]
Score = Annotated[str, typer.Option("--scores", "--score", help=f"one of {', '.join(ALL_SCORES)}")]
CalibratedScore = Annotated[str, typer.Option("--scores", "--score", help=f"one of {', '.join(SCORES)}")]
ExportedScores = Annotated[str, typer.Option("--scores", help=f"one or more, separated by commas: {', '.join(SCORES)}")]
Scores = Annotated[str, typer.Option("--scores", help=f"one or more, separated by commas: {', '.join(ALL_SCORES)}")]
Head = Annotated[Path | None, typer.Option("--head", help="separate file with the anomaly head")]
Normality = Annotated[
    Path | None, typer.Option("--normality", help="file of learn-normal, for the scores normality and fused")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N; with openvino GPU, GPU.N or NPU")]
Backend = Annotated[
    str, typer.Option("--backend", help=f"one of {', '.join(BACKENDS)}; auto: onnxruntime for .onnx, else torch")
]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16")]
Threshold = Annotated[
    float,
    typer.Option(
        "--threshold",
        help="probability above which a pixel is in the mask; negative: the checkpoint's, else 0.5",
    ),
]
ThresholdLow = Annotated[
    float,
    typer.Option("--threshold-low", help="obstacles extend over connected pixels above this; negative: the threshold"),
]
MinArea = Annotated[int, typer.Option("--min-area-px", help="smallest obstacle, in pixels")]
Windows = Annotated[str, typer.Option("--windows", help="how images are cut into windows: eomt, grid or fovea")]
Blend = Annotated[str, typer.Option("--blend", help="weights of overlapping windows: uniform or hann")]
Overlap = Annotated[float, typer.Option("--overlap", help="least overlap of grid windows, as a fraction of the window")]
Scale = Annotated[float, typer.Option("--scale", help="scale of the image under grid windows")]
Horizon = Annotated[float, typer.Option("--horizon", help="row of the horizon, as a fraction of the image height")]
Fovea = Annotated[float, typer.Option("--fovea", help="side of the fovea, as a fraction of the largest that fits")]
Tracking = Annotated[bool, typer.Option("--tracking/--no-tracking", help="follow obstacles from image to image")]
ConfirmedOnly = Annotated[bool, typer.Option("--confirmed-only", help="list only obstacles that tracking confirmed")]
Explain = Annotated[
    bool, typer.Option("--explain/--no-explain", help="list semantic classes and statistics of each obstacle")
]
LabelMeaning = Annotated[str | None, typer.Option("--label-values", help=LABEL_VALUES_HELP)]
Workers = Annotated[int | None, typer.Option("--workers", help="processes; by default as suits the machine", min=1)]
Ray = Annotated[str | None, typer.Option("--ray", help="address of a Ray cluster for the workers; 'local' starts one")]


def check_sources(checkpoint: str, head: Path | None, normality: Path | None, *, download: bool = True) -> None:
    """Check before any work that the files of a model exist.

    Raises:
        CheckpointError: if one does not.
    """
    from eomt_ext_core.errors import CheckpointError
    from eomt_ext_core.files import printable
    from eomt_ext_core.model.checkpoint import resolve_source

    for source in (checkpoint, head):
        if source is not None:
            resolve_source(source, download=download)
    if normality is not None and not normality.is_file():
        raise CheckpointError(f"{printable(normality)}: no such file: make it with `eomt-ext learn-normal`")


def score_names(scores: str) -> tuple[str, ...]:
    """Split the value of ``--scores``.

    Raises:
        ConfigError: if it names no score, an unknown one, or one twice.

    >>> score_names("head, msp")
    ('head', 'msp')
    """
    names = tuple(name.strip() for name in scores.split(",") if name.strip())
    if not names or not set(names) <= set(ALL_SCORES) or len(set(names)) < len(names):
        raise ConfigError(f"--scores must name some of {', '.join(ALL_SCORES)}, each once, got {scores!r}")
    return names
