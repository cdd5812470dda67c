"""How well obstacles of drawn drives are located on the ground, and in how many milliseconds.

    python benchmarks/ground_range.py --drives 60                        # the true masks
    python benchmarks/ground_range.py --drives 10 --checkpoint demo      # and those of a model

Counted are obstacles whose foot is seen on the road, matched to components by their boxes in the image. CPU time of one
thread is taken, so that other load on the machine tells on nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.ground import (
    CameraModel,
    GroundConfig,
    GroundFrame,
    GroundView,
    camera_model,
    locate,
    pose_from_angles,
    range_interval,
    scan,
)
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.scenes import SEMANTIC_CLASSES, Scene, SceneConfig, SceneObstacle, SceneVideo

SIZE_HW = (1080, 1920)
FRAMES, EVERY = 4, 15
FIRST_SEED = 9_000_000
NEAR_M, FAR_M = 5.0, 30.0
PITCH_ERRORS = 25
ROAD = SEMANTIC_CLASSES.index("road")
Masks = Callable[[Scene], NDArray[np.float32]]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@dataclass
class Figures:
    """Of all obstacles that were counted.

    Attributes:
        relative: errors of the range over the range.
        held: whether the 90 % interval holds the true range, for random errors of the pitch.
        behind_m: how far the farthest point is behind the true contact line, less half the obstacle's width and a
            pixel.
        missed: obstacles without a component or without a contact.
    """

    relative: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    behind_m: list[float] = field(default_factory=list)
    missed: int = 0

    def show(self, name: str) -> None:
        error = np.abs(self.relative)
        print(
            f"{name}: {len(error)} obstacles from {NEAR_M:g} to {FAR_M:g} m, {self.missed} more missed\n"
            f"  range error: median {np.median(error):.2%}, p90 {np.quantile(error, 0.9):.2%}, "
            f"mean of signed {np.mean(self.relative):+.2%}\n"
            f"  with ±1° of pitch the 90 % interval holds {np.mean(self.held):.1%} of {len(self.held)}\n"
            f"  behind the contact line by more than half the width and a pixel: "
            f"{np.mean(np.array(self.behind_m) > 0):.2%} of obstacles, {max(self.behind_m):+.2f} m at most"
        )


def scenes(drives: int) -> Iterator[Scene]:
    for seed in range(FIRST_SEED, FIRST_SEED + drives):
        video = SceneVideo(seed, SceneConfig(size_hw=SIZE_HW, obstacle_probability=1.0))
        yield from (video.frame(index) for index in range(0, FRAMES * EVERY, EVERY))


def box_of(scene: Scene, item: SceneObstacle) -> tuple[NDArray[np.float64], bool]:
    """Corners of an obstacle in the image, and whether its foot is seen on the road."""
    scale = scene.camera.focal_px / item.forward_m
    foot = scene.camera.matrix @ (-item.left_m, scene.camera.height_m, item.forward_m)
    column, row = foot[:2] / foot[2]
    half, height = scale * item.width_m / 2, scale * item.height_m
    u, v = round(float(column)), round(float(row))
    inside = 0 <= u < SIZE_HW[1] and 4 <= v < SIZE_HW[0] - 8
    patch = scene.semantic[v + 3 : v + 8, max(0, u - 2) : u + 3] if inside else np.empty(0)
    near_foot = scene.labels[v - 4 : v, max(0, round(column - half)) : round(column + half)] if inside else np.empty(0)
    is_seen = inside and bool((patch == ROAD).all()) and bool((near_foot == 1).any())
    return np.array([column - half, row - height, column + half, row]), is_seen


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared)


def measure(scene: Scene, probability: NDArray[np.float32], figures: Figures, rng: np.random.Generator) -> None:
    camera = camera_model("", SIZE_HW, scene.camera.matrix.ravel().tolist(), ())
    config = GroundConfig(max_range_m=60.0, pitch_deviation_deg=1.0, roll_deviation_deg=0.0, height_deviation_m=0.0)
    found = find_obstacles(probability, ObstacleConfig(min_area_px=50), threshold=0.5)
    pose = pose_from_angles(scene.camera.height_m)
    ground = locate(found, camera, pose, config)
    tilted = rng.normal(0, 1, PITCH_ERRORS)
    turned = [locate(found, camera, pose_from_angles(scene.camera.height_m, e), config) for e in tilted]
    for item in scene.obstacles:
        box, is_seen = box_of(scene, item)
        if not is_seen or not NEAR_M <= item.forward_m <= FAR_M:
            continue
        matches = [
            (overlap(box, np.array([x, y, x + w, y + h], np.float64)), each)
            for each in found.obstacles
            for x, y, w, h in [each.box_xywh]
        ]
        share, match = max(matches, key=lambda pair: pair[0], default=(0.0, None))
        place = [index for index, each in enumerate(ground.obstacles) if each.obstacle is match]
        if share < 0.3 or not place:
            figures.missed += 1
            continue
        nearest = ground.obstacles[place[0]]
        figures.relative.append(float(nearest.nearest_xyz[0]) / item.forward_m - 1)
        figures.behind_m.append(behind(ground, place[0], item))
        truth = float(np.hypot(item.forward_m, nearest.nearest_xyz[1]))  # of the same point of the contact line
        for other in turned:
            for each in other.obstacles:
                if each.obstacle is match:
                    low, high = range_interval(np.array([each.range_m]), np.array([each.sigma_range_m]))
                    figures.held.append(bool(low[0] <= truth <= high[0]))


def behind(ground: GroundFrame, place: int, item: SceneObstacle) -> float:
    part = ground.of_obstacle == place
    depth, pixel = ground.points.xyz[part, 0], np.abs(ground.points.per_row_m[part])
    return float((depth - item.forward_m - item.width_m / 2 - pixel).max())


def cpu_ms(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(25):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return 1e3 * statistics.median(taken)


def cameras() -> dict[str, CameraModel]:
    k = (1000.0, 0.0, 960.0, 0.0, 1000.0, 540.0, 0.0, 0.0, 1.0)
    return {
        "no distortion": camera_model("", SIZE_HW, k, ()),
        "plumb_bob": camera_model("plumb_bob", SIZE_HW, k, (-0.3, 0.1, 1e-3, 1e-3, 0.0)),
        "rational_polynomial": camera_model(
            "rational_polynomial", SIZE_HW, k, (0.4, -0.1, 1e-3, 1e-3, 0.01, 0.7, -0.02, 0.01)
        ),
        "equidistant": camera_model("equidistant", SIZE_HW, k, (0.05, 0.01, 0.001, 0.0)),
    }


def time_it() -> None:
    probability = np.zeros(SIZE_HW, np.float32)
    for index in range(10):
        cv2.ellipse(probability, (100 + 190 * index, 640 + 37 * index), (60, 40), 0, 0, 360, 0.9, -1)
    found = find_obstacles(probability, ObstacleConfig(), threshold=0.5)
    for name, camera in cameras().items():
        view = GroundView(camera, pose_from_angles(1.4, 2.0), GroundConfig())
        began = time.thread_time()
        view.samples  # noqa: B018
        once = 1e3 * (time.thread_time() - began)
        ground = locate(found, camera, view.pose, view.config)
        located = cpu_ms(lambda: locate(found, camera, view.pose, view.config))  # noqa: B023
        scanned = cpu_ms(lambda: scan(ground, found, view))  # noqa: B023
        print(
            f"{name}: {located:.2f} ms for the {len(ground.points.range_m)} contacts of {len(ground.obstacles)} "
            f"obstacles, {scanned:.2f} ms for the scan; {once:.1f} ms once a pose"
        )


@app.command()
def main(
    drives: Annotated[int, typer.Option(help="drawn drives, of four frames each", min=1)] = 20,
    checkpoint: Annotated[str, typer.Option(help="measure the masks of this model too")] = "",
) -> None:
    cv2.setNumThreads(1)
    time_it()
    kinds: dict[str, Masks] = {"true masks": lambda scene: (scene.labels == 1).astype(np.float32)}
    if checkpoint:
        from eomt_ext_core import AnomalyEngine, EngineConfig, load_model

        engine = AnomalyEngine(load_model(checkpoint), EngineConfig(device="cpu"))
        threshold = engine.threshold_of(engine.config)
        kinds[checkpoint] = lambda scene: cut(engine.infer(scene.image_rgb).probability, threshold)
    figures = {name: Figures() for name in kinds}
    rng = np.random.default_rng(0)
    for scene in scenes(drives):
        for name, masks in kinds.items():
            measure(scene, masks(scene), figures[name], rng)
    for name, each in figures.items():
        each.show(name)


def cut(probability: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    return (probability > threshold).astype(np.float32)


if __name__ == "__main__":
    app()
