"""The options that several commands of ``eomt-ext`` have: one name and one explanation each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eomt_ext_core.config import ALL_SCORES, LABEL_VALUES_HELP
from eomt_ext_core.errors import ConfigError

Output = Annotated[Path, typer.Option("--output", help="folder for the results")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the results in the output folder")]
Score = Annotated[str, typer.Option("--score", help=f"one of {', '.join(ALL_SCORES)}")]
Scores = Annotated[str, typer.Option("--scores", help=f"names with commas between: {','.join(ALL_SCORES)}")]
Normality = Annotated[
    Path | None, typer.Option("--normality", help="file of learn-normal, for the scores normality and fused")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16")]
Windows = Annotated[str, typer.Option("--windows", help="how images are cut: eomt, grid or fovea")]
Blend = Annotated[str, typer.Option("--blend", help="where windows overlap: uniform or hann")]
Overlap = Annotated[float, typer.Option("--overlap", help="least overlap of grid windows")]
Scale = Annotated[float, typer.Option("--scale", help="of the image under grid windows")]
Horizon = Annotated[float, typer.Option("--horizon", help="row of the horizon over the height, for the fovea")]
Fovea = Annotated[float, typer.Option("--fovea", help="side of the fovea over the largest possible")]
LabelMeaning = Annotated[str | None, typer.Option("--label-values", help=LABEL_VALUES_HELP)]
Ray = Annotated[str | None, typer.Option("--ray", help="address of a Ray cluster for the workers; 'local' starts one")]


def score_names(scores: str) -> tuple[str, ...]:
    """Take the value of ``--scores`` apart.

    Raises:
        ConfigError: where it names none.

    >>> score_names("head, msp")
    ('head', 'msp')
    """
    names = tuple(name.strip() for name in scores.split(",") if name.strip())
    if not names:
        raise ConfigError(f"--scores must name at least one of {', '.join(ALL_SCORES)}, got {scores!r}")
    return names
