"""Settings of the package as frozen dataclasses: every default, range and description lives here, once.

ROS parameters, command-line flags and documents are derived from the fields and their metadata.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from eomt_ext_core.errors import ConfigError

DEMO = "demo"  # a checkpoint of this name is the built-in model
HUB_SCHEME = "hf://"  # of a checkpoint on the Hugging Face hub: hf://owner/name
DEFAULT_THRESHOLD = 0.5  # if neither the configuration nor the checkpoint has one
LABEL_VALUES_HELP = "meaning of the values in labels, joined by commas: normal=0 anomaly=255 void=7, or anomaly=2-200"

# What a checkpoint gives, and what it gives together with a file of `eomt-ext learn-normal`.
SCORES = ("head", "msp", "max_logit", "entropy", "energy", "rba", "msp_prob", "entropy_prob")
NORMALITY_SCORES = ("normality", "fused")
ALL_SCORES = (*SCORES, *NORMALITY_SCORES)
BACKENDS = ("auto", "torch", "onnxruntime", "openvino")
REGIONS = ("everywhere", "polygon", "drivable")

# The networks that are built, timm's names of DINOv2 and DINOv3 ViTs with registers: no other name reaches timm, since
# a name may stand for a download, a folder or any other model.
DINOV2_BACKBONES = tuple(f"vit_{size}_patch14_reg4_dinov2" for size in ("small", "base", "large", "giant"))
DINOV3_BACKBONES = tuple(f"vit_{size}_patch16_dinov3_qkvb" for size in ("small", "base", "large", "huge_plus"))
BACKBONES = DINOV2_BACKBONES + DINOV3_BACKBONES
# Keyword arguments of timm that may be overridden, with their type, least and most; others may stand for files.
BACKBONE_OVERRIDES: Mapping[str, tuple[type, float, float]] = {
    "embed_dim": (int, 1, 1 << 14),
    "depth": (int, 1, 1 << 10),
    "num_heads": (int, 1, 1 << 10),
    "mlp_ratio": (float, 0.01, 64.0),
    "reg_tokens": (int, 0, 1 << 10),
    "init_values": (float, 0.0, 10.0),  # of the layer scales of a network that is to be trained
    "norm_eps": (float, 1e-12, 1e-2),  # not timm's: of all norms of the backbone
}
MOST_CLASSES = 10_000
FILE_PRECISIONS = ("fp32", "fp16", "int8")  # of exported files
MOST_BATCH = 256  # windows in each call of an exported file
MOST_WINDOW_PIXELS = 1 << 23  # 2896², or 2048 × 4096
_MOST_QUERY_PIXELS = 1 << 30  # 128 masks of the largest window


def option(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """Declare a dataclass field with its description and the range or choices of its values.

    A ``live`` option can change at run time.
    """
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices, "live": live}
    return field(default=default, metadata=metadata)


def check_options(config: Any) -> None:
    """Check every field declared with :func:`option` against its range or choices.

    Raises:
        ConfigError: naming the field, the rule and the value received.
    """
    for item in fields(config):
        value, meta = getattr(config, item.name), item.metadata
        if meta.get("choices") and value not in meta["choices"]:
            raise ConfigError(f"{item.name} must be one of {', '.join(meta['choices'])}, got {value!r}")
        if meta and isinstance(item.default, bool) and not isinstance(value, bool):
            raise ConfigError(f"{item.name} must be true or false, got {value!r}")
        low, high = meta.get("minimum"), meta.get("maximum")
        if low is not None and (isinstance(value, bool) or not isinstance(value, type(item.default) | int)):
            raise ConfigError(f"{item.name} must be of type {type(item.default).__name__}, got {value!r}")
        if low is not None and not value >= low:
            raise ConfigError(f"{item.name} must be at least {low}, got {value!r}")
        if high is not None and not value <= high:
            raise ConfigError(f"{item.name} must be at most {high}, got {value!r}")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of an EoMT (Kerssies et al., CVPR 2025).

    ``backbone`` is one of ``BACKBONES``; ``backbone_overrides`` are keyword arguments of it, listed in
    ``BACKBONE_OVERRIDES``. ``crop_hw`` is the size of the network's window in pixels; it need not be square.
    ``trained_crop_hw`` is the window of a checkpoint's position embedding, if it is neither in the file nor square. It
    is None in a loaded model, which has the positions of ``crop_hw``.

    Raises:
        ConfigError: if a name, a number or a type is not allowed, or a window is not a multiple of the patch size.

    >>> ModelConfig("vit_base_patch14_reg4_dinov2", crop_hw=(640, 640)).grid_hw
    (40, 40)
    """

    backbone: str
    crop_hw: tuple[int, int]
    patch_size: int = option(16, "side of a patch in pixels", minimum=4, maximum=64)
    num_queries: int = option(100, "learned queries", minimum=1, maximum=10_000)
    num_classes: int = option(19, "semantic classes, without the no-object class", minimum=1, maximum=MOST_CLASSES)
    num_blocks: int = option(4, "last transformer blocks that see the queries", minimum=1)
    masked_attention: bool = option(False, "restrict queries to their predicted masks, as in EoMT's early training")
    upscale_blocks: int = option(0, "blocks that upscale the patch map; 0: as official EoMT", minimum=0, maximum=6)
    upscale_eps: float = option(1e-6, "epsilon of their norms", minimum=1e-12, maximum=1e-2)
    backbone_overrides: Mapping[str, Any] = field(default_factory=dict)
    trained_crop_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if self.backbone not in BACKBONES:
            raise ConfigError(f"backbone must be one of {', '.join(BACKBONES)}, got {self.backbone!r}")
        object.__setattr__(self, "backbone_overrides", _overrides(self.backbone_overrides))
        if self.trained_crop_hw is not None:
            trained_crop_hw = _window("trained_crop", self.trained_crop_hw, self.patch_size)
            object.__setattr__(self, "trained_crop_hw", trained_crop_hw)
        object.__setattr__(self, "crop_hw", _window("crop", self.crop_hw, self.patch_size))
        height, width = self.crop_hw
        if height * width * self.num_queries > _MOST_QUERY_PIXELS:
            raise ConfigError(
                f"crop must be at most {_MOST_QUERY_PIXELS // self.num_queries} pixels for {self.num_queries} queries, "
                f"got {width}×{height}"
            )

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches along height and width of a crop."""
        return self.crop_hw[0] // self.patch_size, self.crop_hw[1] // self.patch_size


def _window(name: str, size_hw: Any, patch_size: int) -> tuple[int, int]:
    try:
        height, width = map(operator.index, size_hw)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}_hw must be two whole numbers, height and width, got {size_hw!r}") from error
    for side in (height, width):
        if side < 1 or side % patch_size:
            raise ConfigError(
                f"{name} must be a positive multiple of the patch size {patch_size}, got {side}; "
                f"the nearest is {max(1, round(side / patch_size)) * patch_size}"
            )
    if height * width > MOST_WINDOW_PIXELS:
        raise ConfigError(f"{name} must be at most {MOST_WINDOW_PIXELS} pixels, got {width}×{height}")
    return height, width


def _overrides(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"backbone_overrides must be a mapping of names to numbers, got {given!r}")
    for name, value in given.items():
        if name not in BACKBONE_OVERRIDES:
            raise ConfigError(f"backbone_overrides must be some of {', '.join(BACKBONE_OVERRIDES)}, got {name!r}")
        kind, least, most = BACKBONE_OVERRIDES[name]
        is_number = isinstance(value, kind | int) and not isinstance(value, bool)
        if not is_number:
            raise ConfigError(f"backbone_overrides {name} must be of type {kind.__name__}, got {value!r}")
        if not least <= value <= most:
            raise ConfigError(f"backbone_overrides {name} must be from {least} to {most}, got {value!r}")
    return dict(given)


@dataclass(frozen=True)
class HeadConfig:
    """Shape of the pixel-wise anomaly head of EoMT-EXT.

    With ``feature_proj_dim`` the visual features pass a 1×1 convolution and a ReLU before they are resized, as in the
    reference's checkpoints; with ``None`` they are concatenated unchanged.
    """

    hidden_dim: int = option(256, "width of the first hidden layer; the second has half of it", minimum=2)
    dropout: float = option(0.3, "dropout rate while training", minimum=0.0, maximum=0.99)
    feature_proj_dim: int | None = option(32, "channels of the projected visual features, or none")

    def __post_init__(self) -> None:
        check_options(self)
        if self.feature_proj_dim is not None and self.feature_proj_dim < 1:
            raise ConfigError(f"feature_proj_dim must be at least 1, or None for none, got {self.feature_proj_dim}")


@dataclass(frozen=True)
class WindowConfig:
    """Settings of the windows of an image."""

    mode: str = option(
        "eomt",
        "eomt: short side resized to the window, windows along the long side; grid: 2-D windows at a chosen scale; "
        "fovea: eomt and another window that magnifies the distant road",
        choices=("eomt", "grid", "fovea"),
        live=True,
    )
    blend: str = option("uniform", "weights where windows overlap", choices=("uniform", "hann"), live=True)
    overlap: float = option(
        0.25, "least overlap of grid windows, as a fraction of the window", minimum=0.0, maximum=0.9, live=True
    )
    scale: float = option(1.0, "scale of the image under grid windows", minimum=0.05, maximum=8.0, live=True)
    horizon: float = option(
        0.45,
        "row of the horizon as a fraction of the image height, for the fovea",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    fovea: float = option(
        0.5,
        "side of the fovea as a fraction of the largest that fits into the image",
        minimum=0.1,
        maximum=1.0,
        live=True,
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class EngineConfig:
    """Settings of the engine."""

    device: str = option(
        "auto",
        "auto, cpu, cuda or cuda:N, or OpenVINO's GPU, GPU.N or NPU; auto is the first GPU, or the CPU without one",
    )
    backend: str = option(
        "auto",
        "torch runs a checkpoint, onnxruntime and openvino a file written by `eomt-ext export`; auto is onnxruntime "
        "for a file that ends in .onnx, else torch",
        choices=BACKENDS,
    )
    precision: str = option(
        "auto",
        "arithmetic of the network; auto is bf16 if the hardware supports it, else fp16 on a GPU and fp32 on a CPU",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    optimize: str = option(
        "auto",
        "how torch runs the network: none: operator by operator; graph: as a CUDA graph; compile: by torch.compile, "
        "which takes minutes at the start, and on a GPU as a CUDA graph too; auto: graph on a GPU and none on a CPU",
        choices=("auto", "none", "compile", "graph"),
    )
    score: str = option(
        "head",
        "anomaly score: the trained head, a baseline, the distance from ordinary driving (normality), or head and "
        "normality together (fused); the last two need a file of learn-normal",
        choices=ALL_SCORES,
        live=True,
    )
    score_stride: int = option(
        1, "score every pixel of a window, or every 2nd or 4th of each row and column and resize", minimum=1, maximum=4
    )
    threshold: float = option(
        -1.0,
        "probability above which a pixel is in the mask; negative: that of the checkpoint's calibration, else 0.5, but "
        "for a baseline, which needs one",
        minimum=-1.0,
        maximum=1.0,
        live=True,
    )
    drift_alpha: float = option(
        0.01,
        "with a file of learn-normal: bound on the probability that a drive like the one learnt from is ever reported "
        "as another one; 0: it is not watched",
        minimum=0.0,
        maximum=0.5,
        live=True,
    )
    batch_windows: int = option(
        16,
        "most windows in a batch of the network; fewer if the cameras have fewer together",
        minimum=1,
        live=True,
    )
    max_windows: int = option(
        256, "most windows of an image; an image that needs more is refused, to save memory", minimum=1
    )
    windows: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        check_options(self)
        known = r"auto|cpu|cuda(:[0-9]+)?" if self.backend != "openvino" else r"auto|cpu|GPU(\.[0-9]+)?|NPU"
        if not re.fullmatch(known, self.device):
            names = "auto, cpu, GPU, GPU.N or NPU" if self.backend == "openvino" else "auto, cpu, cuda or cuda:N"
            way_out = "; GPU and NPU need backend openvino" if re.match("GPU|NPU", self.device) else ""
            raise ConfigError(f"device must be {names}, got {self.device!r} with backend {self.backend}{way_out}")
        if self.score_stride == 3:
            raise ConfigError("score_stride must be 1, 2 or 4, got 3")


@dataclass(frozen=True)
class ObstacleConfig:
    """Definition of an obstacle in a probability image.

    Raises:
        ConfigError: if an option breaks its rule, or ``polygon`` is not a flat list of at least three corners around
            an area.

    >>> ObstacleConfig(region="polygon", polygon=[0, 1, 0.5, 0.4, 1, 1]).polygon
    (0.0, 1.0, 0.5, 0.4, 1.0, 1.0)
    """

    threshold_low: float = option(
        -1.0,
        "an obstacle extends over all connected pixels above this; negative: the threshold",
        minimum=-1.0,
        maximum=1.0,
        live=True,
    )
    min_area_px: int = option(50, "smallest obstacle, in pixels of the image", minimum=1, live=True)
    max_obstacles: int = option(
        100, "most obstacles in the list, largest first; the mask contains all", minimum=1, live=True
    )
    region: str = option(
        "everywhere",
        "where obstacles count: everywhere, inside the polygon, or at the predicted drivable area",
        choices=REGIONS,
        live=True,
    )
    polygon: tuple[float, ...] = option(
        (),
        "corners x0, y0, x1, y1, … of the region polygon, as fractions of the image's width and height",
        live=True,
    )
    drivable_classes: tuple[str, ...] = option(
        ("road",), "classes of the drivable area: names of the model's classes, in any case, or their ids", live=True
    )
    drivable_reach: float = option(
        0.01,
        "largest gap between an obstacle and the drivable area, as a fraction of the image height",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    confirmed_only: bool = option(
        False, "list only obstacles that tracking has confirmed; the mask shows all of the image", live=True
    )

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "polygon", _polygon(self.polygon))
        names: Any = self.drivable_classes
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"drivable_classes must be a list of names, got {names!r}")
        object.__setattr__(self, "drivable_classes", tuple(names))


def _polygon(corners: Any) -> tuple[float, ...]:
    try:
        flat = tuple(map(operator.truediv, corners, itertools.repeat(1.0)))
    except TypeError as error:
        raise ConfigError(f"polygon must be a flat list of numbers x0, y0, x1, y1, …, got {corners!r}") from error
    if not flat:
        return ()
    if len(flat) % 2 or len(flat) < 6:
        raise ConfigError(f"polygon must be x, y of at least three corners, got {len(flat)} numbers")
    outside = [value for value in flat if not 0 <= value <= 1]
    if outside:
        raise ConfigError(f"polygon must be in fractions of width and height, from 0 to 1, got {outside[0]}")
    x, y = flat[0::2], flat[1::2]
    doubled_area = math.fsum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))
    if abs(doubled_area) < 1e-9:
        raise ConfigError("polygon must enclose an area, got corners that do not go around one")
    return flat
