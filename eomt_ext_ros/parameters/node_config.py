"""Settings of the node as a frozen dataclass; needs no ROS."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace

from eomt_ext_core.config import DEMO, HUB_SCHEME, EngineConfig, ObstacleConfig, check_options, option
from eomt_ext_core.errors import ConfigError
from eomt_ext_core.ground.ground_config import GroundConfig
from eomt_ext_core.health import HealthConfig
from eomt_ext_core.tracking import TrackingConfig, check_confirmed_only
from eomt_ext_core.visualization import COLOUR_MAPS
from eomt_ext_ros.outputs.registry import OUTPUT_NAMES

RESERVED_CAMERA_NAMES = ("input", "output")


@dataclass(frozen=True)
class DiagnosticsConfig:
    """When the diagnostics report a fault."""

    silent_after_s: float = option(
        5.0,
        "seconds without an image, or without any being processed, after which a camera is faulty",
        minimum=0.1,
        live=True,
    )
    late_after_s: float = option(
        0.5, "seconds from an image's stamp to its outputs above which it is late", minimum=0.0, live=True
    )
    late_frames: int = option(5, "late images in a row that are a fault", minimum=1, live=True)
    hung_after_s: float = option(
        10.0,
        "seconds at one batch after which inference is reported to hang; set it above what the slowest batch takes",
        minimum=0.1,
        live=True,
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class NodeConfig:
    """Hold the settings of the node; those of the engine are parameters of the same node.

    Raises:
        ConfigError: if an option, an output or a camera's name breaks its rule, or a model would be downloaded.
    """

    checkpoint: str = option(
        DEMO,
        "file or folder of the model, demo is the built-in demonstration; ~/reload takes up another",
        live=True,
    )
    head: str = option("", "separate file with the anomaly head, or empty; ~/reload takes up another", live=True)
    normality: str = option(
        "",
        "file of `eomt-ext learn-normal` for this checkpoint, for the scores normality and fused and to tell when a "
        "drive is another one, or empty; ~/reload takes up another",
        live=True,
    )
    autostart: bool = option(True, "configure and activate at start")
    require_cuda: bool = option(False, "refuse to run on a CPU")
    cameras: tuple[str, ...] = option(
        (),
        "names of the cameras, whose topics are ~/<camera>/input/… and ~/<camera>/output/…; empty: one without a name",
    )
    image_transport: str = option(
        "raw", "raw: ~/input/image; compressed: ~/input/image/compressed, JPEG or PNG", choices=("raw", "compressed")
    )
    max_batch_cameras: int = option(
        0, "most cameras in one batch, taken in turn; 0: all that have an image waiting", minimum=0, live=True
    )
    max_rate_hz: float = option(
        0.0, "most images a second that are processed of each camera; 0: as many as possible", minimum=0.0, live=True
    )
    in_flight: int = option(
        0,
        "most batches that are processed at a time; with 2, images are uploaded and outputs published while the device "
        "computes the batch between; 0: 2 on a GPU and 1 on a CPU, which computes nothing beside another batch",
        minimum=0,
        maximum=2,
        live=True,
    )
    outputs: tuple[str, ...] = option(
        OUTPUT_NAMES, "outputs that are computed if somebody subscribes: " + ", ".join(OUTPUT_NAMES), live=True
    )
    publish_scale: float = option(
        1.0, "size of the published images, as a fraction of the camera's", minimum=0.05, maximum=1.0, live=True
    )
    overlay_opacity: float = option(
        0.75, "opacity of the heatmap where the probability is 1", minimum=0.0, maximum=1.0, live=True
    )
    colour_map: str = option("turbo", "colours of the heatmap and the overlay", choices=COLOUR_MAPS, live=True)
    engine: EngineConfig = field(default_factory=EngineConfig)
    obstacles: ObstacleConfig = field(default_factory=ObstacleConfig)
    ground: GroundConfig = field(default_factory=GroundConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("checkpoint", "head"):
            _refuse_download(name, getattr(self, name))
        unknown = [name for name in self.outputs if name not in OUTPUT_NAMES]
        if unknown:
            raise ConfigError(f"outputs must be some of {', '.join(OUTPUT_NAMES)}, got {', '.join(unknown)}")
        check_confirmed_only(self.obstacles, self.tracking)
        for name in self.cameras:
            if not re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", name) or name in RESERVED_CAMERA_NAMES:
                raise ConfigError(
                    "cameras must be names of letters, digits and single underscores that begin with a letter, other "
                    f"than {' and '.join(RESERVED_CAMERA_NAMES)}, got {name!r}"
                )
        taken = sorted({item.name for item in fields(self)} & set(self.cameras))
        if taken:
            raise ConfigError(f"cameras must have other names than the node's parameters, got {', '.join(taken)}")
        if len(self.cameras) > 1 and self.ground.height_m > 0:
            raise ConfigError(
                f"ground.height_m must be 0 with several cameras, as each has a pose of its own, got "
                f"{self.ground.height_m:g}: publish their poses on tf"
            )
        if len(set(self.cameras)) < len(self.cameras):
            raise ConfigError(f"cameras must be different names, got {', '.join(self.cameras)}")

    @property
    def least_period_s(self) -> float:
        """Between two images of a camera that are processed."""
        return 1 / self.max_rate_hz if self.max_rate_hz else 0.0


def _refuse_download(name: str, source: str) -> None:
    if source.startswith(HUB_SCHEME):
        raise ConfigError(
            f"{name} must be a local file or folder, as the node downloads nothing, got {source}: fetch it beforehand "
            f"with `eomt-ext convert {source} model.safetensors` and give that file"
        )


@dataclass(frozen=True)
class CameraConfig:
    """Hold the settings of one of several cameras, each a parameter ``<camera>.<name>``.

    Raises:
        ConfigError: as ``ObstacleConfig``, if it is no polygon.
    """

    polygon: tuple[float, ...] = option(
        (), "corners x0, y0, x1, y1, … of this camera's region polygon; empty: obstacles.polygon", live=True
    )

    def __post_init__(self) -> None:
        ObstacleConfig(polygon=self.polygon)

    def obstacles(self, shared: ObstacleConfig) -> ObstacleConfig:
        """Give what counts as an obstacle in the images of this camera."""
        return replace(shared, polygon=self.polygon) if self.polygon else shared
