"""A world drawn from a seed: a street without end, made in stretches, and its rendering from any place and time."""

from __future__ import annotations

import numpy as np

from .camera import NEAR_M, Camera
from .drawing.canvas import VOID, Canvas
from .drawing.textures import Image, hsv
from .ground import Surface, draw_surface, paint_ground
from .layout import Street, draw_street
from .roadside import roadside
from .things.cars import Car, paint_colour
from .things.obstacles import SEEN_TO_M, Obstacle, draw_obstacle
from .things.surroundings import Thing, near_to_far
from .weather import draw_lens, draw_weather, finish, paint_sky

STRETCH_M = 40.0
OBSTACLE_STRETCH_M = 60.0
VIEW_M = 130.0
_CAR_SLOT_M = 16.0


class World:
    """Everything that a seed stands for; `render` is a pure function of the time."""

    def __init__(
        self,
        seed: int,
        size_hw: tuple[int, int],
        obstacle_probability: float,
        max_obstacles: int,
        families: tuple[str, ...],
        textures: tuple[str, ...],
        height_m: float | None = None,
    ) -> None:
        self.seed, self.size_hw = seed, size_hw
        self.obstacle_probability, self.max_obstacles = obstacle_probability, max_obstacles
        self.families, self.textures = families, textures
        rng = np.random.default_rng([seed, 0])
        self.street: Street = draw_street(rng)
        self.weather = draw_weather(rng)
        self.lens = draw_lens(rng)
        drawn_m = float(rng.uniform(1.2, 1.75))
        self.height_m = drawn_m if height_m is None else height_m
        self.focal = float(rng.uniform(0.65, 1.2))
        self.horizon = float(rng.uniform(0.36, 0.54))
        self.sway = float(rng.normal(0, 0.25))
        self.aim = float(rng.normal(0, 0.02))
        self._stretches: dict[int, tuple[list[Thing], list[Surface]]] = {}
        self._obstacles: dict[int, list[Obstacle]] = {}
        self._cars: dict[tuple[int, int], Car | None] = {}

    # -- what there is ------------------------------------------------------------------------------------------

    def obstacles(self, index: int) -> list[Obstacle]:
        """The unknown obstacles of the stretch of road [60 index, 60 (index + 1)) m."""
        if index not in self._obstacles:
            rng = np.random.default_rng([self.seed, 1, index + 1000])
            found: list[Obstacle] = []
            if index >= 0 and rng.random() < self.obstacle_probability:
                focal_px = self.focal * max(self.size_hw[1], self.size_hw[0])
                nearest = max(3.5, 1.12 * focal_px * self.height_m / (self.size_hw[0] * (1 - self.horizon)))
                count = 1 + int(rng.integers(self.max_obstacles) * rng.random() + 0.3) if self.max_obstacles > 1 else 1
                for _ in range(min(count, self.max_obstacles)):
                    s = index * OBSTACLE_STRETCH_M + nearest * (56.0 / nearest) ** float(rng.random() ** 1.6)
                    d = float(rng.uniform(self.street.left_m + 0.5, self.street.right_m - 0.5))
                    if rng.random() < 0.65:
                        # In and around our lane, where it matters.
                        d = float(
                            np.clip(
                                rng.normal(self.street.ego_d, 1.6), self.street.left_m + 0.4, self.street.right_m - 0.4
                            )
                        )
                    if index == 0:
                        reach = 0.42 * self.size_hw[1] / focal_px * s
                        d = float(
                            np.clip(
                                d,
                                max(self.street.left_m + 0.4, self.street.ego_d - reach),
                                min(self.street.right_m - 0.4, self.street.ego_d + reach),
                            )
                        )
                    found.append(draw_obstacle(rng, s, d, self.families, self.textures))
            self._obstacles[index] = found
        return self._obstacles[index]

    def ahead(self, s: float) -> list[tuple[int, Obstacle]]:
        """The unknown obstacles that are drawn from the distance s, each with a number of its own."""
        stretches = range(int(s // OBSTACLE_STRETCH_M), int((s + SEEN_TO_M) // OBSTACLE_STRETCH_M) + 1)
        numbered = [
            (index * self.max_obstacles + place, item)
            for index in stretches
            for place, item in enumerate(self.obstacles(index))
        ]
        return [(number, item) for number, item in numbered if NEAR_M <= item.s - s < SEEN_TO_M]

    def _detour(self, s: float, d: float) -> float:
        """How far traffic in the lane at d moves aside at s to pass the obstacles."""
        total = 0.0
        first = int(np.floor(s / OBSTACLE_STRETCH_M))
        for index in (first - 1, first, first + 1):
            for item in self.obstacles(index):
                gap = d - item.d
                need = max(0.0, 1.5 + 0.5 * item.width_m - abs(gap))
                total += float(np.copysign(need, gap)) * float(np.exp(-(((s - item.s) / 9.0) ** 2)))
        return float(np.clip(d + total, self.street.left_m + 1.0, self.street.right_m - 1.0)) - d

    def _convoy(self, lane: int, camera_s: float, time_s: float) -> list[Thing]:
        """The cars of one lane: slots moving at one speed, each holding a car or not."""
        d, direction = self.street.lanes[lane]
        velocity = self.street.speed_m_s * (1.0 if direction > 0 else -0.9)
        cars: list[Thing] = []
        first = int(np.floor((camera_s - 8 - velocity * time_s) / _CAR_SLOT_M))
        for slot in range(first, first + int(VIEW_M / _CAR_SLOT_M) + 2):
            key = (lane, slot)
            if key not in self._cars:
                rng = np.random.default_rng([self.seed, 2, lane, slot + 100_000])
                body = str(rng.choice(["hatch", "sedan", "van", "bus"], p=(0.42, 0.36, 0.17, 0.05)))
                car = Car(
                    slot * _CAR_SLOT_M + float(rng.uniform(0, 7)),
                    d + float(rng.normal(0, 0.15)),
                    direction,
                    body,
                    paint_colour(rng),
                    int(rng.integers(2**31)),
                )
                # Nothing where we are ourselves, and a free view of the nearest metres in our lane.
                ours = abs(d - self.street.ego_d) < 1.0
                free = rng.random() > self.street.traffic * (0.5 if ours else 0.7) or (ours and -30 < car.s < 13)
                self._cars[key] = None if free else car
            parked = self._cars[key]
            if parked is not None:
                s = parked.s + velocity * time_s
                blocked = time_s == 0.0 and any(
                    -1.5 < o.s - s < 6.0 and abs(o.d - parked.d) < 1.0 + o.width_m
                    for k in range(-1, 2)
                    for o in self.obstacles(int(s // OBSTACLE_STRETCH_M) + k)
                )
                if not blocked:
                    shifted = Car(
                        s,
                        parked.d + self._detour(s, parked.d),
                        parked.facing,
                        parked.body,
                        parked.colour,
                        parked.seed,
                        cache=parked.cache,
                    )
                    cars.append(shifted)
        return cars

    def stretch(self, index: int) -> tuple[list[Thing], list[Surface]]:
        """What stands beside and lies in the road on [40 index, 40 (index + 1)) m."""
        if index not in self._stretches:
            rng = np.random.default_rng([self.seed, 3, index + 1000])
            s = index * STRETCH_M
            things: list[Thing] = []
            for side in (-1, 1):
                things += roadside(rng, self.street, s, STRETCH_M, side, lamps=self.seed % 2 == (side > 0))
            surfaces = [
                draw_surface(rng, self.street, s + float(rng.uniform(0, STRETCH_M))) for _ in range(int(rng.poisson(5)))
            ]
            self._stretches[index] = (things, surfaces)
        return self._stretches[index]

    # -- how it looks -------------------------------------------------------------------------------------------

    def camera(self, s: float, time_s: float) -> Camera:
        """The camera at the distance s along the road."""
        street = self.street
        d = street.ego_d + self.sway + self._detour(s, street.ego_d + self.sway)
        height, width = self.size_hw
        bounce = 0.0 if time_s == 0 else 0.0015 * np.sin(time_s * 7.0 + self.seed % 7)
        return Camera(
            size_hw=self.size_hw,
            focal_px=self.focal * max(width, height),
            horizon_px=(self.horizon + float(bounce)) * height,
            height_m=self.height_m,
            line=street.line,
            s=s,
            x=float(street.line.x(s)) + d,
            yaw=street.line.slope(s) + self.aim,
        )

    def render(self, s: float, time_s: float, frame: int) -> tuple[Image, Image, Image, tuple[str, ...]]:
        """Image, labels, semantic ids and the families of the obstacles in view, at a place and a time."""
        camera = self.camera(s, time_s)
        weather, street = self.weather, self.street
        canvas = Canvas(camera, weather.light, time_s)
        things: list[Thing] = []
        surfaces: list[Surface] = []
        for index in range(int((s - 15) // STRETCH_M), int((s + VIEW_M) // STRETCH_M) + 1):
            beside, lying = self.stretch(index)
            things += beside
            surfaces += lying
        for lane in range(len(street.lanes)):
            things += self._convoy(lane, s, time_s)
        for index in range(int(s // OBSTACLE_STRETCH_M), int((s + SEEN_TO_M) // OBSTACLE_STRETCH_M) + 1):
            things += self.obstacles(index)
        built = street.kind in ("city", "suburb")
        paint_sky(canvas, weather, hsv(street.leaf_hue, 0.3, street.leaf_value), built)
        near_first = sorted((t for t in things if s < t.order < s + VIEW_M + 30), key=near_to_far)
        for thing in near_first:
            thing.shade(canvas)
        paint_ground(canvas, street, surfaces, weather.horizon, weather.wetness)
        for thing in reversed(near_first):
            thing.paint(canvas)
        image = finish(canvas, weather, self.lens, frame)
        canvas.semantic[canvas.labels != 0] = VOID
        seen = tuple(f for f in self.families if f in canvas.families)
        return image, canvas.labels, canvas.semantic, seen
