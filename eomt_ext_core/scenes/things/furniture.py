"""Street furniture of the known classes: fences, guard rails, walls, hedges, lamp posts, signs and traffic lights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..drawing.canvas import FENCE, POLE, SIGN, VEGETATION, Canvas
from ..drawing.sprites import Pen, Sprite
from ..drawing.textures import Colour, noise_patch, scaled, tinted
from .surroundings import BARRIER, INSIDE

BARRIER_HEIGHTS_M = {"rail": 0.75, "post": 1.1, "picket": 1.0, "bars": 1.5, "wall": 1.4, "hedge": 1.3}
BARRIER_M = 20.0
_BARRIER_VARIANTS = 4


@cache
def _barrier(kind: str, variant: int, ppm: int) -> Sprite:
    """`BARRIER_M` of a barrier; the first channel is its brightness."""
    width, height = BARRIER_M, BARRIER_HEIGHTS_M[kind]
    rng = np.random.default_rng([5, variant, sorted(BARRIER_HEIGHTS_M).index(kind)])
    full, dim, dark = (200.0, 0.0, 0.0), (160.0, 0.0, 0.0), (130.0, 0.0, 0.0)
    pen = Pen(width, height, int(width * ppm), full)
    if kind in ("wall", "hedge"):
        pen.box(-width / 2, 0, width / 2, height, full)
        noise = noise_patch("leaf" if kind == "hedge" else "cloud", rng, (pen.rgba.shape[0], pen.rgba.shape[1]), 0.12)
        low, high = (80.0, 255.0) if kind == "hedge" else (160.0, 225.0)
        pen.rgba[..., :3] = tinted(noise, (low, 0.0, 0.0), (high, 0.0, 0.0))
    elif kind == "rail":
        for x in np.arange(-width / 2, width / 2, 2.0):
            pen.box(x, 0, x + 0.12, height * 0.9, dark)
        pen.box(-width / 2, height * 0.5, width / 2, height, full)
        pen.box(-width / 2, height * 0.68, width / 2, height * 0.8, dim)
    else:
        step = {"picket": 0.18, "post": 2.2, "bars": 0.14}[kind] * (1 + 0.15 * variant)
        thick = {"picket": 0.11, "post": 0.12, "bars": 0.04}[kind]
        for level in (0.2, 0.85) if kind != "post" else (0.4, 0.75):
            pen.box(-width / 2, height * level - 0.04, width / 2, height * level + 0.04, dim)
        for x in np.arange(-width / 2, width / 2, step):
            pen.box(x, 0, x + thick, height, full)
    return pen.sprite()


@dataclass
class Barrier:
    """`BARRIER_M` of fence, guard rail, wall or hedge along the road."""

    s: float
    d: float
    height_m: float
    kind: str
    colour: Colour
    seed: int
    zone: int = BARRIER

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s + BARRIER_M - 0.1

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        sun = canvas.light.sun
        if sun is None or self.kind in ("post", "bars") or self.s - canvas.camera.s > 60:
            return
        outline = canvas.camera.strip(self.s, self.order, self.d, self.d + sun[0] * self.height_m)
        if outline is not None:
            canvas.shade(outline, canvas.light.shadow)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        if not canvas.sees(self.s, self.order, self.d, self.d):
            return
        z = max(self.s - canvas.camera.s, 5.0)
        ppm = int(np.clip(2 ** np.round(np.log2(canvas.camera.focal_px / z)), 8, 64))
        paint = np.zeros((3, 3))
        paint[:, 0] = np.array(self.colour) / 200.0
        semantic = VEGETATION if self.kind == "hedge" else FENCE
        drawn = _barrier(self.kind, self.seed % _BARRIER_VARIANTS, ppm)
        canvas.wall(drawn, self.s, self.order, self.d, 0.0, self.height_m, semantic, 0.9, paint=paint)


@cache
def _plate(variant: int) -> Sprite:
    """A traffic sign, 1 m by 1 m."""
    rng = np.random.default_rng(variant)
    pen = Pen(1.0, 1.0, 64, (235.0, 235.0, 235.0))
    white, red, blue, black = (240.0, 240.0, 240.0), (200.0, 25.0, 30.0), (25.0, 70.0, 175.0), (20.0, 20.0, 20.0)
    shape = int(rng.integers(6))
    ring = [(0.5 * np.sin(a), 0.5 + 0.5 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 9)[:-1] + np.pi / 8]
    if shape == 0:
        pen.ellipse(0, 0.5, 0.5, 0.5, red)
        pen.ellipse(0, 0.5, 0.38, 0.38, white)
        pen.box(-0.2, 0.38, -0.03, 0.62, black)
        pen.box(0.05, 0.38, 0.22, 0.62, black)
    elif shape == 1:
        pen.polygon([(-0.5, 0.05), (0.5, 0.05), (0, 0.95)], red)
        pen.polygon([(-0.33, 0.15), (0.33, 0.15), (0, 0.74)], white)
        pen.box(-0.04, 0.22, 0.04, 0.5, black)
    elif shape == 2:
        pen.ellipse(0, 0.5, 0.5, 0.5, blue)
        pen.polygon(
            [(-0.08, 0.15), (0.08, 0.15), (0.08, 0.55), (0.25, 0.55), (0, 0.85), (-0.25, 0.55), (-0.08, 0.55)], white
        )
    elif shape == 3:
        pen.polygon(ring, red)
        pen.box(-0.33, 0.4, 0.33, 0.6, white)
    elif shape == 4:
        pen.polygon([(0, 0), (0.5, 0.5), (0, 1), (-0.5, 0.5)], white)
        pen.polygon([(0, 0.12), (0.38, 0.5), (0, 0.88), (-0.38, 0.5)], (240.0, 190.0, 30.0))
    else:
        pen.box(-0.5, 0.1, 0.5, 0.9, blue if rng.random() < 0.6 else (20.0, 110.0, 60.0))
        pen.box(-0.35, 0.62, 0.3, 0.72, white)
        pen.box(-0.35, 0.35, 0.15, 0.45, white)
    return pen.sprite()


@dataclass
class Post:
    """A lamp post, sign post, traffic light or bollard."""

    s: float
    d: float
    kind: str
    height_m: float
    towards: int  # side the arm reaches to
    colour: Colour
    seed: int
    zone: int = INSIDE

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        z = self.s - canvas.camera.s
        if canvas.light.sun is None or not 2.0 < z < 50:
            return
        dx, dz = (v * self.height_m for v in canvas.light.sun)
        if z + dz < 2.0:
            return
        x = float(canvas.camera.lateral(self.s, self.d))
        canvas.shade(
            canvas.camera.pixels([x - 0.07, x + 0.07, x + 0.07 + dx, x - 0.07 + dx], 0.0, [z, z, z + dz, z + dz]),
            canvas.light.shadow * 0.8,
        )

    def _bar(
        self, canvas: Canvas, x: float, half: float, y_from: float, y_to: float, z: float, colour: Colour, semantic: int
    ) -> None:
        for left, right, tone in ((-half, half, 0.75), (-half, 0.1 * half, 1.1)):
            outline = canvas.camera.pixels(
                [x + left, x + right, x + right * 0.8, x + left * 0.8], [y_from, y_from, y_to, y_to], z
            )
            canvas.fill(outline, canvas.light.colour(scaled(colour, tone), z, x), semantic)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        camera = canvas.camera
        z = self.s - camera.s
        if z < 2.5 or not canvas.sees(self.s, self.s, self.d - 2.0, self.d + 2.0):
            return
        x = float(camera.lateral(self.s, self.d))
        thick = 0.09 if self.kind == "lamp" else 0.05
        self._bar(canvas, x, thick, 0.0, self.height_m, z, self.colour, POLE)
        if self.kind == "lamp":
            end = x + self.towards * 1.6
            arm = camera.pixels([x, end, end, x], self.height_m + np.array([-0.12, 0.1, 0.2, 0.0]), z)
            canvas.fill(arm, canvas.light.colour(self.colour, z, x), POLE)
            head = camera.pixels(
                [end - 0.35, end + 0.35, end + 0.3, end - 0.3], self.height_m + np.array([0.05, 0.05, 0.22, 0.22]), z
            )
            canvas.fill(
                head,
                canvas.light.colour(
                    (255.0, 225.0, 170.0) if canvas.light.night else self.colour, z, x, float(canvas.light.night)
                ),
                POLE,
            )
            if canvas.light.night:
                canvas.glow(self.s, self.d + self.towards * 1.6, self.height_m, 0.5, (255.0, 200.0, 130.0))
        elif self.kind == "sign":
            plate = _plate(self.seed % 24)
            size = 0.65 if self.seed % 5 else 0.95
            resized = Sprite(plate.rgba, size, size, plate.px_per_m / size)
            canvas.paste(resized, self.s - 0.05, self.d, SIGN, y=self.height_m - size * 0.9)
        elif self.kind == "light":
            top = self.height_m + 0.3
            self._bar(canvas, x, 0.2, top - 1.05, top, z - 0.05, (30.0, 32.0, 30.0), SIGN)
            state = self.seed % 3
            for k, ink in enumerate(((60.0, 255.0, 120.0), (255.0, 190.0, 40.0), (255.0, 50.0, 40.0))):
                turn = np.linspace(0, 2 * np.pi, 10)
                lamp = camera.pixels(x + 0.11 * np.cos(turn), top - 0.85 + 0.32 * k + 0.11 * np.sin(turn), z - 0.05)
                canvas.fill(
                    lamp, canvas.light.colour(ink if k == state else scaled(ink, 0.25), z, x, float(k == state)), None
                )
                if k == state and canvas.light.night:
                    canvas.glow(self.s, self.d, top - 0.85 + 0.32 * k, 0.18, ink)
