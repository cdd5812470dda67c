"""Cars, vans and buses: boxes whose ends and sides are drawings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..drawing.canvas import CAR, Canvas
from ..drawing.sprites import Pen, Sprite
from ..drawing.textures import Colour, hsv, scaled
from .surroundings import BEYOND, INSIDE, bucket

GLASS: Colour = (48.0, 56.0, 66.0)
BLACK: Colour = (22.0, 22.0, 24.0)


def paint_colour(rng: np.random.Generator) -> Colour:
    """A car's paint: mostly white, black, grey and silver, some colours."""
    draw = rng.random()
    if draw < 0.6:
        grey = float(rng.choice([235, 200, 160, 110, 60, 32])) + rng.uniform(-10, 10)
        return (grey, grey, min(255.0, grey * rng.uniform(1.0, 1.06)))
    return hsv(
        rng.choice([rng.uniform(0.55, 0.68), rng.uniform(0.97, 1.03), rng.random()]),
        rng.uniform(0.4, 0.9),
        rng.uniform(0.25, 0.8),
    )


@dataclass
class Car:
    """A car at (s, d): s is its end nearest to a camera behind it; `facing` +1 drives away from it, -1 towards it."""

    s: float
    d: float
    facing: int
    body: str  # hatch, sedan, van, bus
    colour: Colour
    seed: int
    across: bool = False  # seen from its side, crossing the road
    cache: dict[tuple[str, int], Sprite] = field(default_factory=dict, repr=False)

    @cached_property
    def size_m(self) -> tuple[float, float, float]:
        """Width, height and length."""
        rng = np.random.default_rng(self.seed)
        low = {"hatch": (1.7, 1.42, 3.7), "sedan": (1.75, 1.38, 4.3), "van": (1.9, 1.9, 4.6), "bus": (2.4, 2.8, 7.5)}[
            self.body
        ]
        k = rng.uniform(1.0, 1.1, 3)
        return (low[0] * float(k[0]), low[1] * float(k[1]), low[2] * float(k[2]))

    @property
    def zone(self) -> int:
        """On the road, or on a drive beside it."""
        return BEYOND if self.across else INSIDE

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s + 0.3

    @property
    def _deck_m(self) -> float:
        """Length of the bonnet or boot between the end that is seen and the cabin."""
        half = 0.5 * self.size_m[2]
        if self.body in ("van", "bus"):
            return 0.0
        return 0.5 * half if self.facing < 0 else (0.32 * half if self.body == "sedan" else 0.0)

    def _end(self, resolution: int, night: bool, cabin_only: bool) -> Sprite:
        """The front or rear; a cabin that stands back behind bonnet or boot is drawn on its own."""
        rng = np.random.default_rng(self.seed + 1)
        w, h, _ = self.size_m
        away = self.facing > 0
        half, tall = w / 2, self.body in ("van", "bus")
        pen = Pen(w, h, resolution, self.colour)
        waist = h * (0.52 if tall else 0.555)
        roof_half = half * (0.93 if tall else rng.uniform(0.66, 0.76))
        shine_tone, glass_tone = rng.uniform(1.3, 2.6), rng.uniform(0.6, 1.6)
        if cabin_only or self._deck_m == 0.0:
            self._cabin(pen, waist, roof_half, glass_tone, shine_tone)
            if cabin_only:
                return pen.sprite()
        for x in (-half * 0.96, half * 0.96 - 0.24):
            pen.box(x, 0.0, x + 0.24, 0.4, BLACK)
        lower = [
            (-half, 0.3),
            (-half * 0.97, 0.2),
            (half * 0.97, 0.2),
            (half, 0.3),
            (half, waist * 0.92),
            (half * 0.94, waist),
            (-half * 0.94, waist),
            (-half, waist * 0.92),
        ]
        pen.polygon(lower, self.colour)
        pen.box(
            -half * 0.97,
            0.2,
            half * 0.97,
            0.36,
            scaled(self.colour, 0.55) if rng.random() < 0.5 else (45.0, 45.0, 47.0),
        )
        pen.box(-half, waist * 0.93, half, waist * 0.96, scaled(self.colour, 0.75))
        lamp_y = rng.uniform(0.62, 0.78) * waist
        lamp_h, lamp_w = rng.uniform(0.1, 0.24), rng.uniform(0.18, 0.42)
        if away:
            lamp = (255.0, 60.0, 50.0) if night else (185.0, 25.0, 25.0)
            if tall:
                lamp_h, lamp_w = 0.45, 0.16
        else:
            lamp = (255.0, 250.0, 235.0) if night or rng.random() < 0.5 else (205.0, 212.0, 220.0)
            pen.box(-half * 0.5, 0.4, half * 0.5, 0.4 + rng.uniform(0.1, 0.25), (32.0, 32.0, 34.0))
        for side in (-1, 1):
            pen.box(side * half * 0.96, lamp_y - lamp_h / 2, side * (half * 0.96 - lamp_w), lamp_y + lamp_h / 2, lamp)
        plate_y = rng.uniform(0.38, 0.55)
        pen.box(-0.26, plate_y, 0.26, plate_y + 0.11, (225.0, 225.0, 215.0))
        if not away:
            for side in (-1, 1):
                pen.box(side * half * 0.93, waist, side * half * 1.0, waist + 0.14, scaled(self.colour, 0.8))
        return pen.sprite()

    def _cabin(self, pen: Pen, waist: float, roof: float, glass_tone: float, shine_tone: float) -> None:
        half, h = 0.5 * self.size_m[0], self.size_m[1]
        shell = [(-half * 0.94, waist), (half * 0.94, waist), (roof, h * 0.95), (roof * 0.85, h), (-roof * 0.85, h)]
        pen.polygon([*shell, (-roof, h * 0.95)], scaled(self.colour, 1.05))
        low, high = half * 0.9 * 0.86, roof * 0.86
        window = [(-low, waist + 0.02 * h), (low, waist + 0.02 * h), (high, h * 0.92), (-high, h * 0.92)]
        pen.polygon(window, scaled(GLASS, glass_tone))
        shine = [(-half * 0.5, waist + 0.03 * h), (-half * 0.3, waist + 0.03 * h), (roof * 0.1, h * 0.91)]
        pen.polygon([*shine, (-roof * 0.25, h * 0.91)], scaled(GLASS, shine_tone))

    def _side(self, resolution: int) -> Sprite:
        """The right-hand or left-hand side with the rear on the left of the drawing."""
        rng = np.random.default_rng(self.seed + 2)
        _, h, length = self.size_m
        half = length / 2
        pen = Pen(length, h, resolution, self.colour)
        waist = h * 0.56
        sill = 0.22
        if self.body in ("van", "bus"):
            roof = [
                (-half, waist),
                (-half * 0.99, h * 0.97),
                (-half * 0.95, h),
                (half * 0.93, h),
                (half * 0.98, waist),
                (half, waist * 0.8),
            ]
            windows = [(-half * 0.93, -half * 0.35), (-half * 0.3, 0.25 * half), (0.3 * half, 0.85 * half)]
        else:
            rear = -half * (0.98 if self.body == "hatch" else 0.68)
            roof = [
                (-half, waist * 0.95),
                (rear, waist),
                (rear + 0.2 * half, h * 0.96),
                (rear + 0.35 * half, h),
                (half * 0.1, h),
                (half * 0.5, waist),
                (half * 0.97, waist * 0.82),
                (half, waist * 0.6),
            ]
            windows = [(rear + 0.22 * half, -half * 0.2), (-half * 0.14, half * 0.3)]
        pen.polygon([(-half, sill), *roof, (half, sill)], self.colour)
        for left, right in windows:
            lean = 0.12 * half if 0.2 * half < right < 0.5 * half else 0.0
            pen.polygon(
                [(left, waist + 0.02), (right, waist + 0.02), (right - lean, h * 0.93), (left + 0.03, h * 0.93)],
                scaled(GLASS, rng.uniform(0.7, 1.8)),
            )
        pen.box(-half, sill, half, sill + 0.12, scaled(self.colour, 0.55))
        pen.box(-half, waist * 0.95, half, waist * 0.97, scaled(self.colour, 0.8))
        for x in (-0.62 * half, 0.62 * half):
            pen.ellipse(x, 0.34, 0.4, 0.4, scaled(self.colour, 0.35))
            pen.ellipse(x, 0.31, 0.33, 0.31, BLACK)
            pen.ellipse(x, 0.31, 0.2, 0.19, (150.0, 152.0, 156.0) if rng.random() < 0.7 else (70.0, 70.0, 72.0))
            pen.ellipse(x, 0.31, 0.06, 0.06, BLACK)
        pen.box(-half, waist * 0.7, -half + 0.14, waist * 0.9, (185.0, 25.0, 25.0))
        pen.box(half - 0.18, waist * 0.6, half, waist * 0.78, (220.0, 222.0, 225.0))
        return pen.sprite()

    def _cached(self, kind: str, resolution: int, night: bool) -> Sprite:
        key = (kind + str(night), resolution)
        if key not in self.cache:
            self.cache[key] = (
                self._side(resolution) if kind == "side" else self._end(resolution, night, kind == "cabin")
            )
        return self.cache[key]

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        w, h, length = self.size_m
        if self.across:
            w, length = length, w
        near, far = self.s - canvas.camera.s, self.s + length - canvas.camera.s
        if far < 3.0 or near > 90:
            return
        near = max(near, 1.6)
        lateral = canvas.camera.lateral(np.array([near, far]) + canvas.camera.s, self.d)
        grow = 1.0
        dx, dz = (0.0, 0.0) if canvas.light.sun is None else (v * h * 0.75 for v in canvas.light.sun)
        box = np.array(
            [
                (lateral[0] - w / 2, near),
                (lateral[0] + w / 2, near),
                (lateral[1] + w / 2, far),
                (lateral[1] - w / 2, far),
            ]
        )
        if canvas.light.sun is not None:
            thrown = np.concatenate([box, box + np.array([dx, max(dz, 1.7 - near)])])
            hull = _hull(thrown)
            canvas.shade(canvas.camera.pixels(hull[:, 0], 0.0, hull[:, 1]), canvas.light.shadow)
        middle = box.mean(0)
        under = middle + (box - middle) * grow
        canvas.shade(canvas.camera.pixels(under[:, 0], 0.0, under[:, 1]), 0.72)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        w, h, length = self.size_m
        camera, night = canvas.camera, canvas.light.night
        reach = (length if self.across else w) / 2
        if not canvas.sees(self.s, self.s + length, self.d - reach, self.d + reach):
            return
        if self.across:
            canvas.paste(
                self._cached("side", bucket(canvas, self.s, length), night), self.s, self.d, CAR, flip=self.facing < 0
            )
            return
        x = float(camera.lateral(self.s, self.d))
        if self.s + length - camera.s > 2.0 and abs(x) > w / 2 and self.s - camera.s < 100:
            visible = -1 if x > 0 else 1
            side = self._cached("side", bucket(canvas, max(self.s, camera.s + 3.0), length, 256), night)
            if self.facing < 0:
                side = Sprite(np.ascontiguousarray(side.rgba[:, ::-1]), side.width_m, side.height_m, side.px_per_m)
            lean = 0.0 if self.body in ("van", "bus") else 0.16 * w
            canvas.wall(
                side, self.s, self.s + length, self.d + visible * w / 2, 0.0, h, CAR, 0.85, lean=-visible * lean
            )
        resolution = bucket(canvas, self.s, h)
        deck, z = self._deck_m, self.s - camera.s
        if deck > 0.0:
            canvas.paste(self._cached("cabin", resolution, night), self.s + deck, self.d, CAR)
            if z > 2.0:
                waist, half = 0.555 * h, 0.47 * w
                lid = camera.pixels(
                    [x - half, x + half, x + half, x - half], waist, np.array([z, z, z + deck, z + deck])
                )
                canvas.fill(lid, canvas.light.colour(scaled(self.colour, 1.15), z, x), CAR)
        canvas.paste(self._cached("end", resolution, night), self.s, self.d, CAR)
        if night:
            ink = (255.0, 40.0, 30.0) if self.facing > 0 else (255.0, 245.0, 220.0)
            for offset in (-0.38 * w, 0.38 * w):
                canvas.glow(self.s, self.d + offset, 0.65, 0.14 if self.facing > 0 else 0.24, ink)


def _hull(
    points: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Convex hull of ground points, counter-clockwise."""
    order = sorted(map(tuple, points.tolist()))
    chains = []
    for run in (order, order[::-1]):
        chain: list[tuple[float, ...]] = []
        for p in run:
            while len(chain) > 1 and (chain[-1][0] - chain[-2][0]) * (p[1] - chain[-2][1]) <= (
                chain[-1][1] - chain[-2][1]
            ) * (p[0] - chain[-2][0]):
                chain.pop()
            chain.append(p)
        chains += chain[:-1]
    return np.array(chains)
