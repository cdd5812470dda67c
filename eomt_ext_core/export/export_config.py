"""Settings of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eomt_ext_core.config import MOST_BATCH, NORMALITY_SCORES, SCORES, check_options, option
from eomt_ext_core.errors import ConfigError

FORMATS = ("onnx", "pt2")


@dataclass(frozen=True)
class ExportConfig:
    """Settings of an export.

    ``scores`` are names of ``config.SCORES``; by default the head if the model has one, else ``rba``.

    Raises:
        ConfigError: if a value is out of range, or a score is unknown or repeated.
    """

    format: str = option("onnx", "onnx, or pt2 for PyTorch's AOTInductor", choices=FORMATS)
    scores: tuple[str, ...] = option((), f"exported scores: {','.join(SCORES)}; by default the head if there is one")
    semantic: bool = option(False, "export the map of the semantic classes too")
    precision: str = option("fp32", "arithmetic of the network; scoring is always in fp32", choices=("fp32", "fp16"))
    batch: int = option(0, "windows in each call, or 0 for any number", minimum=0, maximum=MOST_BATCH)
    score_stride: int = option(1, "as EngineConfig.score_stride: 1, 2 or 4", minimum=1, maximum=4)
    opset: int = option(18, "version of the ONNX operator set", minimum=18, maximum=23)
    device: str = option("cpu", "target of a pt2 file: cpu, cuda or cuda:N")

    def __post_init__(self) -> None:
        check_options(self)
        if not set(NORMALITY_SCORES).isdisjoint(self.scores):
            raise ConfigError(
                f"{' and '.join(NORMALITY_SCORES)} compare with a drive, which an exported file does not hold: run "
                f"them with backend torch, or export some of {', '.join(SCORES)}"
            )
        if len(set(self.scores)) != len(self.scores) or not set(self.scores) <= set(SCORES):
            raise ConfigError(
                f"scores must be different names out of {', '.join(SCORES)}, got {', '.join(self.scores)}"
            )
        if self.format == "onnx" and self.device != "cpu":
            raise ConfigError(
                f"device must be cpu for an ONNX file, which runs on any device, got {self.device}: leave it out, or "
                "choose format pt2"
            )
        if self.score_stride == 3:
            raise ConfigError("score_stride must be 1, 2 or 4, got 3")

    def check_target(self, path: Path) -> None:
        """Raise ``ConfigError`` if the suffix of the file does not match the format."""
        if path.suffix != f".{self.format}":
            raise ConfigError(f"a file of format {self.format} must end in .{self.format}, got {path.name!r}")
