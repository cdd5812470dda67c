"""Unknown obstacles: families of shapes, covered with families of textures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from ..drawing.canvas import ANOMALY, Canvas
from ..drawing.sprites import Pen, Sprite, relief
from ..drawing.textures import Image, any_colour, make_texture, scaled
from .surroundings import INSIDE, bucket

Rng = np.random.Generator
Texture = Callable[[], Image]


def _shaded(texture: Image, factor: float) -> Image:
    return cv2.convertScaleAbs(texture, alpha=factor)  # type: ignore[return-value]


def _settled(corners: npt.NDArray[np.float64], fraction: float) -> npt.NDArray[np.float64]:
    """Cut the lowest `fraction` off an outline in the unit square, so that it lies flat instead of balancing."""
    return np.stack([corners[:, 0], np.maximum(corners[:, 1] - fraction, 0.0) / (1.0 - fraction)], -1)


def _box(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = texture()
    lid, flank = h * rng.uniform(0.65, 0.9), w * rng.uniform(0.0, 0.3) * rng.choice([-1, 1])
    left, right = (-w / 2 - min(flank, 0), w / 2 - max(flank, 0))
    pen.box(left, 0, right, lid, skin)
    back = [(left + flank, h), (right + flank, h)]
    pen.polygon([(left, lid), (right, lid), back[1], back[0]], _shaded(skin, 1.25))
    if abs(flank) > 0.02 * w:
        near = right if flank > 0 else left
        pen.polygon([(near, 0), (near + flank, h - lid), (near + flank, h), (near, lid)], _shaded(skin, 0.65))


def _barrel(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = texture()
    cap = 0.12 * min(w, h)
    if rng.random() < 0.6:
        pen.box(-w / 2, cap, w / 2, h - cap, skin)
        pen.ellipse(0, cap, w / 2, cap, skin)
        pen.ellipse(0, h - cap, w / 2, cap, _shaded(skin, 1.3))
        for level in (0.33, 0.66):
            pen.box(-w / 2, h * level, w / 2, h * (level + 0.03), scaled(any_colour(rng), 0.6))
    else:
        pen.box(-w / 2 + cap, 0, w / 2 - cap, h, skin)
        pen.ellipse(w / 2 - cap, h / 2, cap, h / 2, skin)
        pen.ellipse(-w / 2 + cap, h / 2, cap, h / 2, _shaded(skin, 0.6))


def _tyre(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = _shaded(texture(), rng.choice([0.45, 1.0]))
    if h > 0.6 * w:
        pen.ellipse(0, h / 2, w / 2, h / 2, skin)
        if rng.random() < 0.7:
            pen.erase(0, h / 2, w * rng.uniform(0.17, 0.28), h * rng.uniform(0.17, 0.28))
    else:
        pen.ellipse(0, h * 0.35, w / 2, h * 0.35, skin)
        pen.ellipse(0, h * 0.6, w / 2, h * 0.4, _shaded(skin, 1.2))
        pen.ellipse(0, h * 0.62, w * 0.25, h * 0.18, (15.0, 15.0, 15.0))


def _polygon(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    count = int(rng.integers(3, 10))
    turn = (
        np.sort(rng.uniform(0, 2 * np.pi, count))
        if rng.random() < 0.5
        else np.linspace(0, 2 * np.pi, count, endpoint=False)
    )
    radius = rng.uniform(0.45, 1.0, count)
    corners = np.stack([np.cos(turn) * radius, np.sin(turn) * radius], -1)
    low, high = corners.min(0), corners.max(0)
    pen.polygon(
        _settled((corners - low) / np.maximum(high - low, 1e-3), rng.uniform(0.05, 0.3)) * (w, h) - (w / 2, 0),
        texture(),
    )


def _ellipse(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    pen.ellipse(0, h / 2, w / 2, h / 2, texture())
    if rng.random() < 0.4:
        pen.ellipse(rng.uniform(-0.2, 0.2) * w, h * 0.55, w * 0.22, h * 0.2, texture())


def _blob(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.ones_like(turn)
    for k in range(2, 7):
        radius += rng.uniform(0, 0.9 / k) * np.cos(k * turn + rng.uniform(0, 6.3))
    corners = np.stack([np.cos(turn), np.sin(turn)], -1) * np.maximum(radius, 0.25)[:, None]
    low, high = corners.min(0), corners.max(0)
    pen.polygon(_settled((corners - low) / (high - low), rng.uniform(0.0, 0.12)) * (w, h) - (w / 2, 0), texture())


def _animal(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = texture()
    way = float(rng.choice([-1, 1]))
    leg, body_y, thick = h * rng.uniform(0.25, 0.5), h * rng.uniform(0.52, 0.62), w * rng.uniform(0.05, 0.09)
    for x in (-0.3, -0.22, 0.2, 0.28):
        foot = x + rng.uniform(-0.05, 0.05)
        pen.polygon(
            [
                (x * w - thick / 2, body_y),
                (x * w + thick, body_y),
                (foot * w + thick / 2, 0),
                (foot * w - thick / 2, 0),
            ],
            _shaded(skin, rng.uniform(0.6, 0.9)),
        )
    pen.ellipse(0, body_y, w * 0.36, max(0.16 * h, (body_y - leg) * 0.9), skin)
    head_x, head_y = way * w * rng.uniform(0.33, 0.4), h * rng.uniform(0.7, 0.87)
    pen.polygon(
        [
            (way * w * 0.2, body_y - 0.1 * h),
            (way * w * 0.1, body_y + 0.12 * h),
            (head_x - way * 0.05 * w, head_y + 0.05 * h),
            (head_x, head_y - 0.08 * h),
        ],
        skin,
    )
    pen.ellipse(head_x, head_y, w * 0.1, h * 0.1, skin, angle=-0.3 * way)
    pen.ellipse(head_x + way * 0.05 * w, head_y - 0.04 * h, w * 0.06, h * 0.055, _shaded(skin, 0.85))
    if rng.random() < 0.7:
        for dx in (-0.05, 0.03):
            pen.polygon(
                [
                    (head_x + dx * w, head_y + 0.04 * h),
                    (head_x + (dx + 0.05) * w, head_y + 0.04 * h),
                    (head_x + (dx + 0.02) * w, min(h, head_y + 0.16 * h)),
                ],
                _shaded(skin, 0.7),
            )
    tail = rng.uniform(-0.2, 0.25)
    pen.polygon(
        [(-way * w * 0.33, body_y + 0.05 * h), (-way * w * 0.33, body_y), (-way * w * 0.48, body_y + tail * h)], skin
    )


def _plank(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    for k in range(int(rng.integers(1, 5))):
        skin = texture()
        y, thick, tilt = rng.uniform(0, 0.5) * h, h * rng.uniform(0.15, 0.4), rng.uniform(-0.4, 0.4) * h
        left, right = -w / 2 * rng.uniform(0.6, 1), w / 2 * rng.uniform(0.6, 1)
        y = max(0.0, -tilt) + (0.0 if k == 0 else 0.6 * y)  # the first lies on the ground, the others on it
        pen.polygon(
            np.clip([(left, y), (right, y + tilt), (right, y + tilt + thick), (left, y + thick)], (-w, 0), (w, h)), skin
        )


def _bag(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = texture()
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wobble = 1 + 0.08 * np.sin(5 * turn + rng.uniform(0, 6)) + 0.06 * np.sin(9 * turn + rng.uniform(0, 6))
    y = np.sin(turn)
    neck = 1 - rng.uniform(0.2, 0.6) * np.clip(y, 0, 1)
    body = np.stack([np.cos(turn) * neck * wobble * 0.46 * w, (0.4 + 0.4 * y) * h], -1)
    pen.polygon(body, skin)
    lean = rng.uniform(-0.12, 0.12) * w
    pen.polygon(
        [
            (lean - 0.1 * w, h * 0.74),
            (lean + 0.1 * w, h * 0.74),
            (lean + 0.2 * w, h),
            (lean, h * 0.9),
            (lean - 0.2 * w, h),
        ],
        _shaded(skin, 0.85),
    )
    for x in rng.uniform(-0.3, 0.3, 3):
        pen.polygon(
            [(x * w, h * 0.1), (x * w + 0.03 * w, h * 0.1), (x * w * 0.3 + lean, h * 0.7)], scaled(any_colour(rng), 0.3)
        )


def _debris(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skins = [texture() for _ in range(2)]
    for k in range(int(rng.integers(5, 14))):
        x, y = rng.uniform(-0.4, 0.4) * w, rng.uniform(0, 0.55) * h * (1 if k > 2 else 0)
        y *= 1 - abs(2 * x / w)
        turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
        size = rng.uniform(0.08, 0.28)
        shard = np.stack([x + np.cos(turn) * size * w * 0.7, y + 0.15 * h + np.sin(turn) * size * h], -1)
        pen.polygon(np.clip(shard, (-w / 2, 0), (w / 2, h)), _shaded(skins[k % 2], rng.uniform(0.5, 1.3)))


def _furniture(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = texture()
    bar = 0.07 * min(w, h)
    seat = h * rng.uniform(0.35, 0.6)
    for x in (-0.45, 0.42):
        pen.box(x * w, 0, x * w + bar * 1.4, seat, _shaded(skin, 0.8))
        pen.box(x * w * 0.6, seat * 0.15, x * w * 0.6 + bar, seat, _shaded(skin, 0.6))
    pen.polygon([(-w / 2, seat), (w / 2, seat), (w * 0.42, seat + 2.2 * bar), (-w * 0.42, seat + 2.2 * bar)], skin)
    if rng.random() < 0.7:
        side = float(rng.choice([-1, 1]))
        pen.box(-0.42 * w * side, seat, (0.42 if rng.random() < 0.5 else -0.25) * w * side, h, _shaded(skin, 0.9))
    else:
        for level in (0.2, 0.35):
            pen.box(-w * 0.45, seat * level, w * 0.45, seat * level + bar, skin)


def _cone(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    skin = texture()
    tip = rng.uniform(0.02, 0.15) * w
    pen.box(-w / 2, 0, w / 2, 0.08 * h, _shaded(skin, 0.6))
    pen.polygon([(-0.38 * w, 0.06 * h), (0.38 * w, 0.06 * h), (tip, h), (-tip, h)], skin)


def _composite(pen: Pen, rng: Rng, w: float, h: float, texture: Texture) -> None:
    for k in range(int(rng.integers(2, 5))):
        x = rng.uniform(-0.25, 0.25) * w
        half, low, high = (
            w * rng.uniform(0.12, 0.25),
            0.0 if k == 0 else rng.uniform(0, 0.4) * h,
            h * rng.uniform(0.45, 1.0),
        )
        kind = rng.integers(3)
        if kind == 0:
            pen.box(x - half, low, x + half, high, texture())
        elif kind == 1:
            pen.ellipse(x, (low + high) / 2, half, (high - low) / 2, texture())
        else:
            pen.polygon([(x - half, low), (x + half, low), (x + rng.uniform(-1, 1) * half, high)], texture())


_SHAPES: dict[
    str, tuple[Callable[[Pen, Rng, float, float, Texture], None], tuple[float, float], tuple[float, float], float]
] = {
    # drawing, range of the height in metres, range of width / height, strength of the relief
    "box": (_box, (0.25, 1.6), (0.7, 1.8), 0.15),
    "barrel": (_barrel, (0.4, 1.1), (0.55, 1.7), 0.9),
    "tyre": (_tyre, (0.3, 1.0), (0.9, 2.8), 0.5),
    "polygon": (_polygon, (0.3, 1.7), (0.6, 1.9), 0.35),
    "ellipse": (_ellipse, (0.25, 1.5), (0.7, 2.2), 1.0),
    "blob": (_blob, (0.25, 1.6), (0.7, 2.2), 0.8),
    "animal": (_animal, (0.4, 1.8), (1.0, 1.7), 0.6),
    "plank": (_plank, (0.12, 0.5), (2.0, 6.0), 0.3),
    "bag": (_bag, (0.35, 1.0), (0.7, 1.3), 0.8),
    "debris": (_debris, (0.15, 0.7), (1.4, 4.0), 0.3),
    "furniture": (_furniture, (0.5, 1.4), (0.6, 1.6), 0.2),
    "cone": (_cone, (0.35, 1.1), (0.5, 1.0), 0.6),
    "composite": (_composite, (0.4, 1.9), (0.6, 1.5), 0.5),
}

OBSTACLE_FAMILIES: tuple[str, ...] = tuple(_SHAPES)

SEEN_TO_M = 75.0
_FADE_M = 8.0


@dataclass
class Obstacle:
    """An unknown object standing on the road at (s, d)."""

    s: float
    d: float
    family: str
    texture: str
    width_m: float
    height_m: float
    seed: int
    zone: int = INSIDE
    cache: dict[int, Sprite] = field(default_factory=dict, repr=False)

    @property
    def order(self) -> float:
        """Distance by which things are sorted."""
        return self.s

    def drawing(self, resolution_px: int) -> Sprite:
        """The thing as a drawing of `resolution_px` along its longer side."""
        if resolution_px not in self.cache:
            rng = np.random.default_rng(self.seed)
            draw, _, _, bulge = _SHAPES[self.family]
            size = min(128, max(32, resolution_px))
            skin = make_texture(self.texture, rng, size)
            base = tuple(float(v) for v in skin.mean((0, 1)))
            pen = Pen(self.width_m, self.height_m, resolution_px, base)  # type: ignore[arg-type]
            draw(pen, rng, self.width_m, self.height_m, lambda: make_texture(self.texture, rng, size))
            light_x = float(np.random.default_rng(self.seed).uniform(-1, 1))
            self.cache[resolution_px] = relief(pen.sprite(), light_x, bulge)
        return self.cache[resolution_px]

    def _sprite(self, canvas: Canvas) -> Sprite:
        return self.drawing(bucket(canvas, self.s, max(self.height_m, self.width_m)))

    def shade(self, canvas: Canvas) -> None:
        """Draw the shadow on the ground."""
        if 2.0 < self.s - canvas.camera.s < SEEN_TO_M:
            canvas.contact_shadow(self.s + 0.1, self.d, self.width_m * 1.15, min(0.9, 0.6 * self.width_m), 0.6)
            canvas.cast_shadow(self._sprite(canvas), self.s, self.d)

    def paint(self, canvas: Canvas) -> None:
        """Draw the thing itself."""
        z = self.s - canvas.camera.s
        opacity = (SEEN_TO_M - z) / _FADE_M
        if opacity <= 0.0:
            return
        canvas.paste(self._sprite(canvas), self.s, self.d, ANOMALY, opacity=min(1.0, opacity))
        canvas.families.append(self.family)


def draw_obstacle(rng: Rng, s: float, d: float, families: tuple[str, ...], textures: tuple[str, ...]) -> Obstacle:
    """Sample an obstacle of the given families standing at (s, d)."""
    family, texture = families[int(rng.integers(len(families)))], textures[int(rng.integers(len(textures)))]
    _, heights, aspects, _ = _SHAPES[family]
    height = float(rng.uniform(*heights))
    width = min(3.0, height * float(rng.uniform(*aspects)))
    return Obstacle(s, d, family, texture, width, height, int(rng.integers(2**31)))
