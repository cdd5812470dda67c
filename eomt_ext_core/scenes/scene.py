"""Labelled road scenes and drives, rendered from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from .camera import Camera
from .drawing.textures import TEXTURE_FAMILIES
from .things.obstacles import OBSTACLE_FAMILIES
from .world import World


@dataclass(frozen=True)
class SceneObstacle:
    """An obstacle that stands on the road, hidden or not.

    `id` is its own over a whole drive; its foot is `forward_m` ahead of the camera and `left_m` to the left of it.
    """

    id: int
    family: str
    forward_m: float
    left_m: float
    width_m: float
    height_m: float


@dataclass(frozen=True)
class Scene:
    """One labelled image.

    `image_rgb` (H, W, 3) uint8; `labels` (H, W) uint8: 0 known, 1 anomaly, 255 void; `semantic` (H, W) uint8: index
    into `SEMANTIC_CLASSES`, 255 exactly where the label is not 0; `obstacle_families`: the families of the
    obstacles ahead, hidden ones included; `camera`: that it was drawn for; `obstacles`: where those ahead stand, the
    nearest first.
    """

    image_rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8]
    obstacle_families: tuple[str, ...]
    camera: Camera
    obstacles: tuple[SceneObstacle, ...]


@dataclass(frozen=True)
class SceneConfig:
    """What scenes to render; raises `ConfigError` if a setting breaks its rule.

    `size_hw` in pixels; `camera_height_m` above the ground, None: another one for each seed; `obstacle_probability` and
    `max_obstacles` hold for every 60 m of road; obstacles are of `obstacle_families`, covered with `texture_families`.
    """

    size_hw: tuple[int, int] = (540, 960)
    obstacle_probability: float = 0.85
    max_obstacles: int = 4
    obstacle_families: tuple[str, ...] = OBSTACLE_FAMILIES
    texture_families: tuple[str, ...] = TEXTURE_FAMILIES
    camera_height_m: float | None = None

    def __post_init__(self) -> None:
        if len(self.size_hw) != 2 or not all(isinstance(v, int) and 64 <= v <= 4096 for v in self.size_hw):
            raise ConfigError(f"size_hw must be two whole numbers from 64 to 4096, got {self.size_hw}")
        if not 0.0 <= self.obstacle_probability <= 1.0:
            raise ConfigError(f"obstacle_probability must lie in [0, 1], got {self.obstacle_probability}")
        if self.camera_height_m is not None and not 0.5 <= self.camera_height_m <= 4.0:
            raise ConfigError(f"camera_height_m must be from 0.5 to 4, or None, got {self.camera_height_m}")
        if self.max_obstacles < 1:
            raise ConfigError(
                f"max_obstacles must be at least 1, got {self.max_obstacles}; for none set obstacle_probability=0"
            )
        for name, chosen, known in (
            ("obstacle_families", self.obstacle_families, OBSTACLE_FAMILIES),
            ("texture_families", self.texture_families, TEXTURE_FAMILIES),
        ):
            unknown = [family for family in chosen if family not in known]
            if unknown or not chosen:
                raise ConfigError(f"{name} must name at least one of {', '.join(known)}; got {unknown or 'none'}")


def _world(seed: int, config: SceneConfig) -> World:
    if seed < 0:
        raise ConfigError(f"seed must not be negative, got {seed}")
    return World(
        seed,
        config.size_hw,
        config.obstacle_probability,
        config.max_obstacles,
        config.obstacle_families,
        config.texture_families,
        config.camera_height_m,
    )


def _scene(world: World, s: float, time_s: float, frame: int) -> Scene:
    camera = world.camera(s, time_s)
    obstacles = tuple(
        SceneObstacle(id, each.family, each.s - s, -float(camera.lateral(each.s, each.d)), each.width_m, each.height_m)
        for id, each in sorted(world.ahead(s), key=lambda pair: pair[1].s)
    )
    return Scene(*world.render(s, time_s, frame), camera, obstacles)


def render_scene(seed: int, config: SceneConfig = SceneConfig()) -> Scene:
    """Render the first frame of the world of a seed; the same seed and config give the same bits.

    >>> scene = render_scene(3, SceneConfig(size_hw=(64, 96)))
    >>> scene.image_rgb.shape, scene.labels.shape
    ((64, 96, 3), (64, 96))
    """
    return _scene(_world(seed, config), 0.0, 0.0, 0)


class SceneVideo:
    """A drive through the world of a seed; `frame(t)` does not depend on the frames asked for before."""

    def __init__(
        self, seed: int, config: SceneConfig = SceneConfig(), fps: float = 15.0, speed_m_s: float | None = None
    ) -> None:  # fmt: skip
        if not fps > 0:
            raise ConfigError(f"fps must be positive, got {fps}")
        if speed_m_s is not None and not speed_m_s > 0:
            raise ConfigError(f"speed_m_s must be positive, got {speed_m_s}; leave it out for the street's own")
        self._world = _world(seed, config)
        self.fps = fps
        self.speed_m_s = self._world.street.speed_m_s if speed_m_s is None else speed_m_s

    def frame(self, index: int) -> Scene:
        """The scene of frame `index` >= 0; frame 0 is `render_scene` of the seed."""
        if index < 0:
            raise ConfigError(f"a frame index must not be negative, got {index}")
        time_s = index / self.fps
        return _scene(self._world, self.speed_m_s * time_s, time_s, index)


def render_video(
    seed: int, num_frames: int, config: SceneConfig = SceneConfig(), fps: float = 15.0, speed_m_s: float | None = None
) -> Iterator[Scene]:  # fmt: skip
    """Render the first frames of a drive, one after the other."""
    if num_frames < 1:
        raise ConfigError(f"num_frames must be at least 1, got {num_frames}")
    video = SceneVideo(seed, config, fps, speed_m_s)
    return (video.frame(index) for index in range(num_frames))
