"""Procedural labelled road scenes: known streets with unknown obstacles, and drives through them, from a seed."""

from .canvas import SEMANTIC_CLASSES
from .obstacles import OBSTACLE_FAMILIES, Obstacle, draw_obstacle
from .scene import Scene, SceneConfig, SceneObstacle, SceneVideo, render_scene, render_video
from .sprites import Sprite
from .textures import TEXTURE_FAMILIES

__all__ = [
    "OBSTACLE_FAMILIES",
    "SEMANTIC_CLASSES",
    "TEXTURE_FAMILIES",
    "Obstacle",
    "Scene",
    "SceneConfig",
    "SceneObstacle",
    "SceneVideo",
    "Sprite",
    "draw_obstacle",
    "render_scene",
    "render_video",
]
