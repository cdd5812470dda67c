"""Procedural labelled road scenes: known streets with unknown obstacles, and drives through them, from a seed."""

from .drawing.canvas import SEMANTIC_CLASSES
from .drawing.sprites import Sprite
from .drawing.textures import TEXTURE_FAMILIES
from .scene import Scene, SceneConfig, SceneObstacle, SceneVideo, render_scene, render_video
from .things.obstacles import OBSTACLE_FAMILIES, Obstacle, draw_obstacle

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
