"""What the node's parameters say: of the node, and of each of its cameras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.parameter import Parameter

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.errors import ConfigError
from eomt_ext_ros.parameters.node_config import CameraConfig, NodeConfig
from eomt_ext_ros.parameters.ros_parameters import changed_values, declare_parameters, read_parameters


@dataclass(frozen=True)
class Settings:
    """The configuration of the node and of its cameras by name; that of a single camera is the node's."""

    node: NodeConfig
    cameras: Mapping[str, CameraConfig]

    def obstacles(self, camera: str) -> ObstacleConfig:
        """Give what counts as an obstacle in the images of a camera."""
        return self.cameras[camera].obstacles(self.node.obstacles)


def declare_settings(node: Node) -> Settings:
    """Declare the parameters of the node and of the cameras that these name, and read them.

    Raises:
        ConfigError, ParameterException: if a value breaks a rule.
    """
    if not node.has_parameter("checkpoint"):
        declare_parameters(node)
    config: NodeConfig = read_parameters(node)
    for camera in config.cameras:
        if not node.has_parameter(f"{camera}.polygon"):
            declare_parameters(node, CameraConfig, f"{camera}.")
    return read_settings(node)


def read_settings(node: Node, changed: list[Parameter] | None = None) -> Settings:
    """Build the settings from declared parameters, with those that change in the place of the node's.

    Raises:
        ConfigError: if a value breaks a rule.
    """
    changed = changed or []
    config: NodeConfig = read_parameters(node, changed_values(changed))
    cameras = {}
    for camera in config.cameras:
        prefix = f"{camera}."
        if node.has_parameter(f"{prefix}polygon"):
            given = changed_values(changed, CameraConfig, prefix)
            with of_camera(camera):
                cameras[camera] = read_parameters(node, given, CameraConfig, prefix)
        else:
            cameras[camera] = CameraConfig()  # its parameters are declared when the node is configured
    return Settings(config, cameras or {"": CameraConfig()})


@contextmanager
def of_camera(camera: str) -> Iterator[None]:
    """Name the camera in a ``ConfigError`` about it; that of a single camera has no name."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"camera {camera}: {error}" if camera else str(error)) from None
