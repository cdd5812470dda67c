"""What to export, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eomt_ext_core.config import NORMALITY_SCORES, SCORES, check_options, option
from eomt_ext_core.errors import ConfigError

FORMATS = ("onnx", "pt2")
MOST_BATCH = 256


@dataclass(frozen=True)
class ExportConfig:
    """How a model becomes a file.

    ``scores`` are names out of ``config.SCORES``; none stands for the head where there is one, else for ``rba``.

    Raises:
        ConfigError: where a value is out of its range, or a score is unknown or there twice.
    """

    format: str = option("onnx", "onnx, or pt2: a package of PyTorch's AOTInductor", choices=FORMATS)
    scores: tuple[str, ...] = option((), f"scores that the file gives: {','.join(SCORES)}; the head where there is one")
    semantic: bool = option(False, "the file also gives the map of the known classes")
    precision: str = option("fp32", "arithmetic of the network; scoring is always in fp32", choices=("fp32", "fp16"))
    batch: int = option(0, "windows of a call: exactly so many, or 0 for any number", minimum=0, maximum=MOST_BATCH)
    score_stride: int = option(1, "as EngineConfig.score_stride: 1, 2 or 4", minimum=1, maximum=4)
    opset: int = option(18, "version of ONNX's operators", minimum=18, maximum=23)
    device: str = option("cpu", "what a pt2 package is compiled for: cpu, cuda or cuda:N")

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
                f"device is for pt2, an ONNX file is for any: leave it out, or choose format pt2, got {self.device}"
            )
        if self.score_stride == 3:
            raise ConfigError("score_stride must be 1, 2 or 4, got 3")

    def check_target(self, path: Path) -> None:
        """Hold the name of the file to its format, by a :class:`ConfigError`."""
        if path.suffix != f".{self.format}":
            raise ConfigError(f"a file of format {self.format} must end in .{self.format}, got {path.name!r}")
