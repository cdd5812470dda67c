"""What a benchmark runs: variants, models, images and how often."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core.config import check_options, option
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.stages import OUTPUTS, RESIZE, STITCH

SIZES = ("small", "base", "large")

# A way of running a frame, and its arithmetic; the literal way and Transformers run in bf16 by autocast.
VARIANTS = ("literal-fp32", "literal-bf16", "transformers-fp32", "transformers-bf16", "ours-fp32", "ours-bf16")
REFERENCE = VARIANTS[0]
# Ours otherwise than by ``optimize: auto``; to be asked for.
WAYS_OF_OURS = ("ours-none-fp32", "ours-none-bf16", "ours-compile-fp32", "ours-compile-bf16")

# Where the time of a frame goes, in the order of its path, where network and scoring are told apart.
NETWORK, SCORING = "network", "scoring"
STAGES = RESIZE, NETWORK, SCORING, STITCH, OUTPUTS

# Image sizes of common cameras, near 0.25, 0.5, 1, 2, 4 and 8 megapixels.
GROWTH_HW = ((400, 640), (540, 960), (800, 1280), (1080, 1920), (1520, 2688), (2160, 3840))
NUM_CAMERAS = (1, 2, 4, 6, 8)
CAMERA_HW = (540, 960)

NO_GROWTH = "none"


@dataclass(frozen=True)
class BenchConfig:
    """How a benchmark runs.

    Raises:
        ConfigError: naming the rule that is broken and what was given.
    """

    sizes: tuple[str, ...] = option(("base",), "sizes of the random models")
    checkpoint: str = option("", "a model to measure in place of the random ones")
    images_hw: tuple[tuple[int, int], ...] = option(((540, 960), (1080, 1920)), "heights and widths of the images")
    variants: tuple[str, ...] = option(VARIANTS, "what runs side by side")
    repeats: int = option(0, "frames of each variant; 0: 3 on a CPU, 200 on a GPU", minimum=0)
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    growth_model: str = option("demo", "whose cost is followed over megapixels and cameras: a size, a checkpoint, none")
    growth_hw: tuple[tuple[int, int], ...] = option(GROWTH_HW, "heights and widths of the images it is followed over")

    def __post_init__(self) -> None:
        check_options(self)
        for name, known in (("sizes", SIZES), ("variants", VARIANTS + WAYS_OF_OURS)):
            given = getattr(self, name)
            if not given or not set(given) <= set(known):
                raise ConfigError(f"{name} must be out of {', '.join(known)}, got {', '.join(given) or 'none'}")
        if not self.images_hw:
            raise ConfigError("images must name at least one size, got none")

    @property
    def models(self) -> tuple[str, ...]:
        """Names that :func:`~eomt_ext_core.bench.models.make_model` takes."""
        return (self.checkpoint,) if self.checkpoint else self.sizes


# A trial of a minute on two CPU cores: that everything runs, not how fast.
QUICK = BenchConfig(sizes=("small",), images_hw=((540, 960),), repeats=1, growth_hw=GROWTH_HW[:4])


def parse_names(text: str) -> tuple[str, ...]:
    """Take a comma-separated list apart.

    >>> parse_names("small, base")
    ('small', 'base')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Read image sizes, width × height, as heights and widths.

    Raises:
        ConfigError: where one is something else.

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
