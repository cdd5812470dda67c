"""Pedestrians and cyclists."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..drawing.canvas import CYCLIST, PEDESTRIAN, Canvas
from ..drawing.sprites import Pen, Sprite
from ..drawing.textures import Colour, hsv, scaled
from .surroundings import INSIDE, bucket

BLACK: Colour = (22.0, 22.0, 24.0)


@dataclass
class Person:
    """A pedestrian or a cyclist."""

    s: float
    d: float
    height_m: float
    rides: bool
    speed_m_s: float
    seed: int
    zone: int = INSIDE
    cache: dict[tuple[int, int], Sprite] = field(default_factory=dict, repr=False)

    def _s(self, canvas: Canvas) -> float:
        return self.s + self.speed_m_s * canvas.time_s

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s

    def _body(self, pen: Pen, rng: np.random.Generator, base: float, h: float, step: float, bent: float) -> None:
        """Head, torso, arms and legs; `base` is the height of the feet, `step` swings the limbs, `bent` leans."""
        skin = hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.95))
        coat, trousers = (hsv(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.1, 0.85)) for _ in range(2))
        hair = hsv(rng.uniform(0.04, 0.12), rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.7))
        hip, neck = base + 0.48 * h, base + 0.83 * h
        wide = h * rng.uniform(0.1, 0.14)
        skirt, bag, sleeve = rng.random() < 0.25, rng.random(), coat if rng.random() < 0.75 else skin
        for side in (-1, 1):
            foot = side * step * 0.16 * h + side * 0.03 * h
            knee = 0.5 * foot + 0.02 * h * side
            pen.limb(
                [(side * 0.035 * h, hip), (knee, base + 0.25 * h), (foot, base + 0.03 * h)],
                0.075 * h,
                skin if skirt else scaled(trousers, 0.85 + 0.15 * side),
            )
            pen.box(foot - 0.035 * h, base, foot + 0.05 * h, base + 0.035 * h, BLACK)
        shoulders = [
            (-wide * 0.9 + bent, neck - 0.02 * h),
            (wide * 0.9 + bent, neck - 0.02 * h),
            (wide * 0.85, hip),
            (-wide * 0.85, hip),
        ]
        pen.polygon(shoulders, coat)
        if skirt:
            pen.polygon(
                [
                    (-wide * 0.8, hip + 0.05 * h),
                    (wide * 0.8, hip + 0.05 * h),
                    (wide * 1.2, hip - 0.2 * h),
                    (-wide * 1.2, hip - 0.2 * h),
                ],
                trousers,
            )
        for side in (-1, 1):
            hand = (side * (wide + 0.02 * h) - side * step * 0.1 * h + bent, hip - 0.02 * h)
            pen.limb(
                [(side * wide * 0.9 + bent, neck - 0.04 * h), (side * (wide + 0.03 * h) + bent, base + 0.63 * h), hand],
                0.055 * h,
                scaled(sleeve, 0.85),
            )
        pen.box(-0.02 * h + bent, neck - 0.02 * h, 0.02 * h + bent, neck + 0.04 * h, skin)
        pen.ellipse(bent, base + 0.925 * h, 0.052 * h, 0.072 * h, skin)
        pen.polygon(
            [
                (bent + 0.055 * h * np.cos(a), base + 0.935 * h + 0.065 * h * np.sin(a))
                for a in np.linspace(-0.2, np.pi + 0.2, 12)
            ],
            hair,
        )
        if bag < 0.25:
            pen.box(wide, hip - 0.06 * h, wide + 0.1 * h, hip + 0.06 * h, scaled(trousers, 1.3))
        elif bag < 0.4:
            pen.box(-wide * 0.7, hip + 0.08 * h, wide * 0.7, neck - 0.05 * h, scaled(coat, 0.6))

    def _draw(self, resolution: int, phase: int) -> Sprite:
        rng = np.random.default_rng(self.seed)
        h = self.height_m
        step = float(np.sin(phase * np.pi / 4))
        if not self.rides:
            pen = Pen(h * 0.62, h, resolution, (60.0, 55.0, 52.0))
            self._body(pen, rng, 0.0, h, step * rng.uniform(0.5, 1.0), 0.0)
            return pen.sprite()
        frame = hsv(rng.random(), rng.uniform(0, 0.9), rng.uniform(0.1, 0.8))
        pen = Pen(0.62 * h, h, resolution, (50.0, 50.0, 52.0))
        pen.ellipse(0, 0.33, 0.055, 0.33, BLACK)
        pen.limb([(0, 0.5), (0, 0.95)], 0.05, frame)
        pen.limb([(-0.28, 1.0), (0.28, 1.0)], 0.04, BLACK)
        self._body(pen, rng, 0.2 * h, 0.8 * h, step * 0.4, 0.0)
        pen.box(-0.07, 0.55, 0.07, 0.62, (200.0, 30.0, 30.0))
        return pen.sprite()

    def _sprite(self, canvas: Canvas) -> Sprite:
        resolution = bucket(canvas, self._s(canvas), self.height_m)
        phase = (int(canvas.time_s * 8 * max(0.2, abs(self.speed_m_s)) ** 0.5) + self.seed) % 8
        if (resolution, phase) not in self.cache:
            self.cache[resolution, phase] = self._draw(resolution, phase)
        return self.cache[resolution, phase]

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        s = self._s(canvas)
        if 2.0 < s - canvas.camera.s < 60 and canvas.sees(s, s + 2.0, self.d - 2.0, self.d + 2.0):
            canvas.contact_shadow(s, self.d, 0.6, 0.5, 0.5)
            canvas.cast_shadow(self._sprite(canvas), s, self.d)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        s = self._s(canvas)
        if canvas.sees(s, s + 0.5, self.d - 0.5, self.d + 0.5):
            canvas.paste(
                self._sprite(canvas), s, self.d, CYCLIST if self.rides else PEDESTRIAN, flip=self.seed % 2 == 0
            )
