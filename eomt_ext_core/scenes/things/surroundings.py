"""Buildings and plants beside the road, drawn from small banks of shapes that every world colours for itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import cv2
import numpy as np

from ..drawing.canvas import BUILDING, VEGETATION, Canvas
from ..drawing.sprites import PAD, Pen, Sprite, framed, relief
from ..drawing.textures import Colour, Image, hsv, noise_patch, scaled

BEYOND, BARRIER, INSIDE = range(3)  # zones, from the landscape to the road


class Thing(Protocol):
    """Anything that can be painted."""

    @property
    def zone(self) -> int:
        """Whether it stands beyond the barriers along the road, is one, or stands inside of them."""

    @property
    def order(self) -> float:
        """Distance `s` by which things are sorted."""

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing."""


def near_to_far(thing: Thing) -> tuple[int, int, float]:
    """Sorting key: by stretches of 20 m, so that a barrier hides what is beyond it and not what stands before it."""
    return (int(thing.order // 20.0), -thing.zone, thing.order)


def bucket(canvas: Canvas, s: float, size_m: float, largest: int = 512) -> int:
    """The power of two, at least 16, that is no smaller than the size of something in pixels."""
    pixels = canvas.camera.focal_px * size_m / max(s - canvas.camera.s, 2.0)
    return int(min(largest, max(16, 2 ** int(np.ceil(np.log2(max(pixels, 1.0)))))))


_FACADE_VARIANTS = 10
_MAX_STOREYS = 6


@cache
def _facade(storeys: int, variant: int, px_per_storey: int, end: bool, night: bool) -> Sprite:
    """A wall with windows, 1 m by 1 m; the channels are how much there is of wall, glass (at night: lamps), accent."""
    rng = np.random.default_rng([storeys, variant, int(end)])
    columns = int(rng.integers(2, 4) if end else rng.integers(3, 7))
    cell_h, cell_w = px_per_storey, max(4, round(px_per_storey * rng.uniform(0.7, 1.3)))
    share_x, share_y = rng.uniform(0.3, 0.85), rng.uniform(0.4, 0.8)
    left, top = round(cell_w * (1 - share_x) / 2), round(cell_h * (1 - share_y) * 0.45)
    right, bottom = max(left + 1, cell_w - left), max(top + 1, round(top + cell_h * share_y))
    wall, glass, accent = (200, 0, 0), (0, 0 if night else 200, 0), (0, 0, 200)
    cell: Image = np.empty((cell_h, cell_w, 3), np.uint8)
    cell[:] = wall
    if rng.random() < 0.35 and cell_h > 12:
        cell[:: max(2, cell_h // 12)] = (170, 0, 0)
    edge = max(1, cell_w // 20)
    cell[max(0, top - edge) : bottom + edge, max(0, left - edge) : right + edge] = accent
    cell[top:bottom, left:right] = glass
    if rng.random() < 0.6:
        cell[top:bottom, (left + right) // 2 : (left + right) // 2 + edge] = accent
    if rng.random() < 0.4:
        cell[-max(1, cell_h // 14) :] = (0, 0, 170)
    image: Image = np.tile(cell, (storeys, columns, 1))
    tones = rng.uniform(0.4, 1.27, (storeys, columns))
    lit, blank = rng.random((2, storeys, columns))
    share_lit, shop = rng.uniform(0.05, 0.6), rng.random() < 0.3 and not end
    for i in range(storeys):
        for j in range(columns):
            y, x = i * cell_h, j * cell_w
            pane = image[y + top : y + bottom, x + left : x + right]
            if blank[i, j] < (0.45 if end else 0.04):
                image[y : y + cell_h, x : x + cell_w] = wall
            elif not night:
                cv2.convertScaleAbs(pane, dst=pane, alpha=tones[i, j])
            elif lit[i, j] < share_lit:
                pane[:] = (0, 200 * min(1.0, tones[i, j]), 0)
    if shop:
        band = image[-cell_h:]
        band[:] = (120, 0, 0)
        band[cell_h // 3 :, edge:-edge] = (0, 190, 0)
        band[: cell_h // 3] = (0, 0, 220)
        band[:, :: max(3, cell_w // 2)] = (90, 0, 0)
    image[: max(1, cell_h // 10)] = (140, 0, 0)
    stains = noise_patch("cloud", rng, (image.shape[0], image.shape[1]), 0.4)
    tone = cv2.cvtColor(cv2.convertScaleAbs(stains, alpha=0.3, beta=90), cv2.COLOR_GRAY2RGB)
    return framed(cv2.multiply(image, tone, scale=1 / 128), 1.0, 1.0)  # type: ignore[arg-type]


@dataclass
class Building:
    """A block along the road from `s` to `s + length_m`, with its front on the plane d, in its own size and colours."""

    s: float
    d: float
    side: int
    length_m: float
    depth_m: float
    height_m: float
    roof_m: float
    wall: Colour
    glass: Colour
    accent: Colour
    seed: int
    zone: int = BEYOND

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s + self.length_m - 0.1

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        if canvas.light.sun is None:
            return
        dx, dz = (v * self.height_m for v in canvas.light.sun)
        if dx * self.side >= 0 or self.order < canvas.camera.s - 20:
            return
        s_from, s_to = self.s + min(dz, 0.0), self.order + max(dz, 0.0)
        outline = canvas.camera.strip(s_from, s_to, self.d, self.d + dx)
        if outline is not None and s_to - canvas.camera.s < 150:
            canvas.shade(outline, canvas.light.shadow)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        camera, light = canvas.camera, canvas.light
        far_d = self.d + self.side * self.depth_m
        sees_side = canvas.sees(self.s, self.order, self.d, self.d)
        sees_end = self.s - camera.s > 3.0 and canvas.sees(self.s, self.s, self.d, far_d)
        if self.order - camera.s < 3.0 or not (sees_side or sees_end):
            return
        storeys = int(np.clip(round(self.height_m / 3.1), 1, _MAX_STOREYS))
        pixels = camera.focal_px / max(self.s - camera.s, 6.0) * self.height_m / storeys
        detail = int(np.clip(2 ** np.round(np.log2(pixels)), 8, 64))
        # Lamps behind windows shine on their own; walls need light.
        gain = light.gain if light.night else (1.0, 1.0, 1.0)
        glass = (245.0, 208.0, 140.0) if light.night else self.glass
        paint = np.stack([np.multiply(self.wall, gain), np.array(glass), np.multiply(self.accent, gain)], -1) / 200.0
        sunny, faces_sun = light.sun is not None, light.sun is not None and light.sun[0] * self.side > 0
        if sees_side:
            front = _facade(storeys, self.seed % _FACADE_VARIANTS, detail, False, light.night)
            tone = 1.12 if faces_sun else (0.72 if sunny else 0.95)
            canvas.wall(
                front, self.s, self.order, self.d, 0.0, self.height_m, BUILDING, tone, emissive=light.night, paint=paint
            )
        if sees_end:
            end = _facade(storeys, self.seed % _FACADE_VARIANTS, detail, True, light.night)
            tone = 1.05 if light.sun is not None and light.sun[1] > 0 else (0.66 if sunny else 0.85)
            canvas.front(end, self.s, self.d, far_d, 0.0, self.height_m, BUILDING, tone, light.night, paint)
        if self.roof_m > 0:
            self._roof(canvas)

    def _roof(self, canvas: Canvas) -> None:
        camera = canvas.camera
        near = max(self.s, camera.s + 3.0)
        middle = self.d + self.side * self.depth_m * 0.5
        far_d = self.d + self.side * self.depth_m
        tile = hsv(0.02 + (self.seed % 7) * 0.012, 0.25 + (self.seed % 5) * 0.08, 0.3 + (self.seed % 3) * 0.12)
        ridge = self.height_m + self.roof_m
        z, x = near - camera.s, float(camera.lateral(near, self.d))
        slope = camera.project([near, self.order, self.order, near], [self.d, self.d, middle, middle],
                               [self.height_m, self.height_m, ridge, ridge])  # fmt: skip
        canvas.fill(slope, canvas.light.colour(tile, z, x), BUILDING)
        if self.s - camera.s > 3.0:
            gable = camera.project([near] * 3, [self.d, far_d, middle], [self.height_m, self.height_m, ridge])
            canvas.fill(gable, canvas.light.colour(scaled(tile, 0.7), z, x), BUILDING)


PLANT_KINDS = ("tree", "conifer", "bush")
_PLANT_VARIANTS = 16


@cache
def _plant(kind: str, variant: int, resolution: int) -> Sprite:
    """A plant 1 m high; the first channel is the brightness of its leaves, the second that of its bark."""
    rng = np.random.default_rng([PLANT_KINDS.index(kind), variant])
    width = {"tree": rng.uniform(0.55, 0.95), "conifer": rng.uniform(0.3, 0.5), "bush": rng.uniform(1.0, 2.0)}[kind]
    crown = Pen(width, 1.0, resolution, (0.0, 0.0, 0.0))
    fill = (0.0, 0.0, 0.0)
    if kind == "conifer":
        tiers = int(rng.integers(4, 9))
        for k in range(tiers):
            base, reach = 0.06 + 0.8 * k / tiers, width * 0.46 * (1 - 0.85 * k / tiers)
            crown.polygon([(-reach, base), (reach, base), (0.0, min(1.0, base + 0.35))], fill)
    else:
        low = 0.0 if kind == "bush" else rng.uniform(0.18, 0.4)
        middle = 0.5 * (low + 1.0)
        crown.ellipse(0.0, middle, 0.3 * width, 0.3 * (1 - low), fill)
        if kind == "bush":
            crown.box(-0.38 * width, 0.0, 0.38 * width, 0.4, fill)
        for _ in range(int(rng.integers(14, 30))):
            turn, reach, radius = rng.uniform(0, 6.3), rng.uniform(0, 1) ** 0.5, rng.uniform(0.07, 0.16)
            x, y = (
                0.33 * reach * np.cos(turn) * width,
                middle + (0.5 * (1 - low) - radius - 0.03) * reach * np.sin(turn),
            )
            crown.ellipse(x, max(y, 0.6 * radius), radius * width, radius, fill)
    size = (crown.rgba.shape[0], crown.rgba.shape[1])
    leaves = noise_patch("leaf", rng, size, rng.uniform(0.4, 0.8)).astype(np.float32)
    clumps = noise_patch("cloud", rng, size, 0.5).astype(np.float32)
    body = cv2.GaussianBlur(crown.rgba[..., 3], (0, 0), max(0.8, resolution / 45)).astype(np.float32)
    alpha = np.clip((body + 0.8 * (leaves - 140) + 0.35 * (clumps - 128)) * 2.6 - 180, 0, 255).astype(np.uint8)
    alpha[:PAD], alpha[-PAD:], alpha[:, :PAD], alpha[:, -PAD:] = 0, 0, 0, 0
    brightness = np.clip(20 + 0.62 * leaves + 0.25 * clumps, 0, 255).astype(np.uint8)
    blank = np.zeros(size, np.uint8)
    foliage = relief(Sprite(cv2.merge([brightness, blank, blank, alpha]), width, 1.0, crown.scale), 0.5, 1.0).rgba  # type: ignore[arg-type]
    if kind != "bush":
        trunk = Pen(width, 1.0, resolution, (0.0, 150.0, 0.0))
        lean, thick = rng.uniform(-0.04, 0.04), rng.uniform(0.028, 0.05)
        trunk.polygon(
            [(-0.6 * thick, 0.0), (0.6 * thick, 0.0), (lean + 0.3 * thick, 0.6), (lean - 0.3 * thick, 0.6)],
            (0.0, 110.0, 0.0),
        )
        trunk.polygon([(-0.6 * thick, 0.0), (0.0, 0.0), (lean, 0.6), (lean - 0.3 * thick, 0.6)], (0.0, 170.0, 0.0))
        bare = (trunk.rgba[..., 3] > 0) & (alpha < 128)
        foliage[bare] = trunk.rgba[bare]
    return Sprite(foliage, width, 1.0, crown.scale)


@dataclass
class Plant:
    """A tree, conifer or bush: one of a few drawings, in its own size and colour."""

    s: float
    d: float
    height_m: float
    kind: str
    leaf: Colour
    bark: Colour
    seed: int
    zone: int

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s

    def _sprite(self, canvas: Canvas) -> Sprite:
        drawn = _plant(self.kind, self.seed % _PLANT_VARIANTS, bucket(canvas, self.s, self.height_m, 256))
        return Sprite(drawn.rgba, drawn.width_m * self.height_m, self.height_m, drawn.px_per_m / self.height_m)

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        z = self.s - canvas.camera.s
        if 2.0 < z < 45 and canvas.sees(self.s, self.s + 4.0, self.d - self.height_m, self.d + self.height_m):
            canvas.contact_shadow(self.s, self.d, self.height_m * 0.5, self.height_m * 0.4, 0.35)
            canvas.cast_shadow(self._sprite(canvas), self.s, self.d)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        if canvas.sees(self.s, self.s + 0.5, self.d - self.height_m, self.d + self.height_m):
            paint = np.array([self.leaf, self.bark, (0.0, 0.0, 0.0)]).T / 150.0
            canvas.paste(self._sprite(canvas), self.s, self.d, VEGETATION, flip=self.seed % 3 == 0, paint=paint)
