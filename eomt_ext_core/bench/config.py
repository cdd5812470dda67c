"""Settings of a benchmark: variants, models, images and repeats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eomt_ext_core.config import BACKENDS, EngineConfig, check_options, option
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.stages import NETWORK_AND_SCORING, OUTPUTS, RESIZE, STITCH

SIZES = ("small", "base", "large")

# Pipelines with their precision; the literal one and Transformers run in bf16 by autocast.
VARIANTS = ("literal-fp32", "literal-bf16", "transformers-fp32", "transformers-bf16", "ours-fp32", "ours-bf16")
REFERENCE = VARIANTS[0]
# Ours with other settings than ``optimize: auto``; only on request.
WAYS_OF_OURS = ("ours-none-fp32", "ours-none-bf16", "ours-compile-fp32", "ours-compile-bf16")
EXPORTED = "exported"  # the only one of an exported file; results name its runtime and precision instead

# The stages of a frame, in order, with network and scoring measured separately; an exported file has them in one.
NETWORK, SCORING = "network", "scoring"
STAGES = RESIZE, NETWORK, SCORING, STITCH, OUTPUTS
STAGES_OF_EXPORTED = RESIZE, NETWORK_AND_SCORING, STITCH, OUTPUTS

# Image sizes of common cameras, near 0.25, 0.5, 1, 2, 4 and 8 megapixels.
GROWTH_HW = ((400, 640), (540, 960), (800, 1280), (1080, 1920), (1520, 2688), (2160, 3840))
NUM_CAMERAS = (1, 2, 4, 6, 8)
CAMERA_HW = (540, 960)

NO_GROWTH = "none"


def is_exported(source: str) -> bool:
    """Whether a file is one that `eomt-ext export` writes, by its name."""
    return source.endswith((".onnx", ".pt2"))


@dataclass(frozen=True)
class BenchConfig:
    """Settings of a benchmark.

    Raises:
        ConfigError: naming the broken rule and the value received.
    """

    sizes: tuple[str, ...] = option(("base",), "sizes of the random models")
    checkpoint: str = option("", "model to measure instead of the random ones, or an exported file")
    backend: str = option("auto", "what runs an exported .onnx file", choices=BACKENDS)
    precision: str = option(EngineConfig.precision, "of an exported file: auto, fp32, bf16 or fp16")
    images_hw: tuple[tuple[int, int], ...] = option(((540, 960), (1080, 1920)), "heights and widths of the images")
    variants: tuple[str, ...] = option(VARIANTS, "pipelines to compare")
    repeats: int = option(0, "frames of each variant; 0: 3 on a CPU, 200 on a GPU", minimum=0)
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    growth_model: str = option("demo", "model for the cost over megapixels and cameras: a size, a checkpoint or none")
    growth_hw: tuple[tuple[int, int], ...] = option(GROWTH_HW, "heights and widths of the images for the cost")

    def __post_init__(self) -> None:
        check_options(self)
        for name, known in (("sizes", SIZES), ("variants", VARIANTS + WAYS_OF_OURS)):
            given = getattr(self, name)
            if not given or not set(given) <= set(known):
                raise ConfigError(f"{name} must be some of {', '.join(known)}, got {', '.join(given) or 'none'}")
        if is_exported(self.growth_model):
            raise ConfigError(f"growth_model must be a checkpoint, got the exported file {self.growth_model}")
        allowed = {".onnx": ("auto", "onnxruntime", "openvino"), ".pt2": ("auto",)}.get(
            Path(self.checkpoint).suffix, ("auto", "torch")
        )
        if self.backend not in allowed:
            what = self.checkpoint if is_exported(self.checkpoint) else "a checkpoint"
            raise ConfigError(f"backend must be {' or '.join(allowed)} for {what}, got {self.backend}")
        if self.precision != "auto" and not is_exported(self.checkpoint):
            raise ConfigError(f"precision is of an exported file, got {self.precision}: variants name that of a model")
        EngineConfig(self.device, self.backend, self.precision)  # which holds them to its rules
        if is_exported(self.checkpoint) and self.growth_model != NO_GROWTH:
            raise ConfigError(
                f"growth_model must be {NO_GROWTH} with the exported file {self.checkpoint}, got {self.growth_model}: "
                "measure the growth of a checkpoint on its own"
            )
        if not self.images_hw:
            raise ConfigError("images must name at least one size, got none")

    @property
    def models(self) -> tuple[str, ...]:
        """Names that :func:`~eomt_ext_core.bench.variants.models.make_model` takes."""
        return (self.checkpoint,) if self.checkpoint else self.sizes


# A trial of a minute on two CPU cores, which shows that everything runs, not how fast.
QUICK = BenchConfig(sizes=("small",), images_hw=((540, 960),), repeats=1, growth_hw=GROWTH_HW[:4])


def parse_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list.

    >>> parse_names("small, base")
    ('small', 'base')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parse image sizes, width × height, to heights and widths.

    Raises:
        ConfigError: if one has another form.

    >>> parse_sizes("960x540")
    ((540, 960),)
    """
    found = []
    for name in parse_names(text):
        width, _, height = name.lower().replace("×", "x").partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise ConfigError(f"an image size must be width x height in pixels, such as 960x540, got {name!r}")
        found.append((int(height), int(width)))
    return tuple(found)
