"""What a batch runs under."""

from __future__ import annotations

from dataclasses import dataclass

from eomt_ext_core import ConfigError
from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.obstacles import check_obstacle_config
from eomt_ext_ros.inference.engine import Engine
from eomt_ext_ros.inference.inference import Inference
from eomt_ext_ros.parameters.node_config import NodeConfig
from eomt_ext_ros.parameters.settings import Settings, of_camera


@dataclass(frozen=True)
class BatchContext:
    """The model and the settings of a batch, from its first image to its last output, whatever changes meanwhile.

    Attributes:
        threshold: the probability above which a pixel belongs to the mask.
    """

    inference: Inference
    settings: Settings
    threshold: float

    @property
    def engine(self) -> Engine:
        """The model as it is run."""
        return self.inference.engine

    @property
    def config(self) -> NodeConfig:
        """Settings of the node itself."""
        return self.settings.node


def describe_region(config: ObstacleConfig) -> str:
    """Describe to an operator where obstacles count."""
    if config.region == "polygon":
        return f"polygon of {len(config.polygon) // 2} corners"
    return f"drivable: {', '.join(config.drivable_classes)}" if config.region == "drivable" else config.region


def validated_context(inference: Inference, settings: Settings) -> BatchContext:
    """Combine a model and settings.

    Raises:
        ConfigError: if they do not go together.
    """
    engine, config = inference.engine, settings.node
    threshold = engine.threshold_of(engine.checked(config.engine))
    if config.obstacles.region == "drivable" and not engine.has_semantic:
        raise ConfigError(
            "region drivable needs the class of each pixel, which this model does not give (it is an export without "
            "--semantic, or has more than 256 classes): export it anew, or choose the region polygon or everywhere"
        )
    for camera in settings.cameras:
        with of_camera(camera):
            check_obstacle_config(settings.obstacles(camera), threshold, engine.class_names)
    return BatchContext(inference, settings, threshold)
