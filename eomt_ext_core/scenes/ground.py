"""Road, pavement and terrain: polygons for the layout, remapped noise, and what lies in the road surface.

Everything here is known: patches, cracks, manholes, puddles, tyre marks and shadows are road.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from .camera import FAR_M
from .drawing.canvas import PAVEMENT, ROAD, TERRAIN, Canvas
from .drawing.textures import TILE, Colour, Image, mixed, noise_tile
from .layout import Street

SURFACE_KINDS = (
    "patch",
    "crack",
    "manhole",
    "puddle",
    "tyre_mark",
    "stain",
    "seam",
    "zebra",
    "arrow",
    "stop_line",
    "leaves",
)


@dataclass(frozen=True)
class Surface:
    """Something flat in the road surface at (s, d)."""

    kind: str
    s: float
    d: float
    length_m: float
    width_m: float
    tone: float
    shape: tuple[float, ...]  # 16 numbers in [0, 1): its outline or wiggle


def draw_surface(rng: np.random.Generator, street: Street, s: float) -> Surface:
    """Sample a surface feature of the road at distance s."""
    built = street.kind in ("city", "suburb", "village")
    chances = (0.2, 0.18, 0.1, 0.07, 0.13, 0.1, 0.1, 0.03 * built, 0.04, 0.02 * built, 0.04)
    kind = str(rng.choice(SURFACE_KINDS, p=np.array(chances) / sum(chances)))
    length, width, tone = {
        "patch": (
            rng.uniform(0.5, 8),
            rng.uniform(0.4, 2.5),
            rng.choice([rng.uniform(0.55, 0.85), rng.uniform(1.1, 1.4)]),
        ),
        "crack": (rng.uniform(1.5, 12), rng.uniform(0.3, 2.0), rng.uniform(0.35, 0.75)),
        "manhole": (0.65, 0.65, rng.uniform(0.4, 0.8)),
        "puddle": (rng.uniform(0.6, 3.5), rng.uniform(0.4, 1.8), 1.0),
        "tyre_mark": (rng.uniform(4, 25), rng.uniform(0.15, 0.28), rng.uniform(0.45, 0.8)),
        "stain": (rng.uniform(0.2, 1.5), rng.uniform(0.2, 1.0), rng.uniform(0.4, 0.8)),
        "seam": (0.12, street.right_m - street.left_m, rng.uniform(0.35, 0.8)),
        "zebra": (rng.uniform(2.5, 4), 0.5, 1.0),
        "arrow": (3.5, 0.6, 1.0),
        "stop_line": (0.5, street.lane_m, 1.0),
        "leaves": (rng.uniform(0.5, 3), rng.uniform(0.3, 1.2), 1.0),
    }[kind]
    d = float(rng.uniform(street.left_m + 0.5, street.right_m - 0.5))
    if kind in ("arrow", "stop_line"):
        d = street.lanes[int(rng.integers(len(street.lanes)))][0]
    elif kind == "seam":
        d = 0.5 * (street.left_m + street.right_m)
    elif kind == "leaves":
        d = float(rng.choice([street.left_m + 0.5, street.right_m - 0.5]))
    return Surface(kind, s, d, float(length), float(width), float(tone), tuple(float(v) for v in rng.random(16)))


@cache
def _slabs(joint: float) -> Image:
    """A periodic paving of 16 x 16 slabs, 128 on average."""
    tones = np.random.default_rng(5).normal(128, 9, (16, 16)).clip(90, 165).astype(np.uint8)
    tile = np.kron(tones, np.ones((TILE // 16, TILE // 16), np.uint8))
    step = TILE // 16
    for k in range(16):
        tile[k * step : k * step + 2] = joint
        tile[:, k * step : k * step + 2] = joint
    return tile.astype(np.uint8)


class _Plane:
    """Road coordinates of the ground pixels of a canvas, from the row `top` on."""

    def __init__(self, canvas: Canvas) -> None:
        camera = canvas.camera
        height, width = camera.size_hw
        self.top = int(np.clip(np.floor(camera.horizon_px) + 1, 0, height - 1))
        rows = np.arange(self.top, height) - camera.horizon_px
        self.depth = np.minimum(camera.focal_px * camera.height_m / np.maximum(rows, 0.25), 2000.0)
        self.s = camera.s + self.depth
        self.columns = ((np.arange(width) - 0.5 * width) / camera.focal_px).astype(np.float32)
        line = camera.line.x(np.minimum(self.s, camera.s + FAR_M))
        self.offset = (camera.x + camera.yaw * self.depth - line).astype(np.float32)

    def sample(self, tile: Image, px_per_m: float, fade_m: float) -> Image:
        """A tile laid on the ground, its contrast fading with depth; 128 is neutral."""
        near = int(np.searchsorted(-self.depth, -2.2 * fade_m))
        out: Image = np.full((len(self.depth), len(self.columns)), 128, np.uint8)
        if near >= len(self.depth):
            return out
        depth = self.depth[near:, None].astype(np.float32)
        x = (self.columns[None, :] * depth + self.offset[near:, None]) * np.float32(px_per_m)
        x -= np.floor(x.min() / TILE) * TILE
        y = np.repeat(((self.s[near:, None] * px_per_m) % TILE).astype(np.float32), x.shape[1], 1)
        values = cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        weight = np.exp(-((self.depth[near:] / fade_m) ** 2)).astype(np.float32)[:, None]
        out[near:] = (values.astype(np.float32) - 128.0) * weight + 128.0
        return out


def _blob(shape: Sequence[float], rough: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = np.ones_like(turn)
    for k in range(1, 5):
        radius += rough * (shape[k] - 0.5) * np.cos(k * turn + 6.3 * shape[k + 5])
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1) * 0.5


class _GroundPainter:
    """Paints unlit ground colours, and collects in `tones` what multiplies them (128: unchanged)."""

    def __init__(self, canvas: Canvas, street: Street, sky: Colour) -> None:
        self.canvas, self.street, self.sky = canvas, street, sky
        self.camera = canvas.camera
        self.tones: Image = np.full(canvas.labels.shape, 128, np.uint8)

    def strip(
        self, s_from: float, s_to: float, d_from: float, d_to: float, colour: Colour, semantic: int | None = None
    ) -> None:
        outline = self.camera.strip(s_from, s_to, d_from, d_to)
        if outline is not None:
            self.canvas.fill(outline, colour, semantic)

    def tone(self, outline: object, tone: float) -> None:
        cv2.fillPoly(self.tones, [np.rint(np.clip(np.asarray(outline), -8000, 8000) * 16).astype(np.int32)],
                     float(np.clip(128 * tone, 20, 250)), cv2.LINE_AA, 4)  # fmt: skip

    def layout(self) -> None:
        street, near, far = self.street, self.camera.s - 5.0, self.camera.s + FAR_M
        for side, width in ((-1, street.pavement_m[0]), (1, street.pavement_m[1])):
            inner = street.right_m if side > 0 else street.left_m
            if width > 0:
                self.strip(near, far, inner, inner + side * width, street.pavement, PAVEMENT)
                self.strip(near, far, inner, inner + side * 0.16, street.kerb, PAVEMENT)
        self.strip(near, far, street.left_m, street.right_m, street.road, ROAD)

    def markings(self) -> None:
        street = self.street
        near, far = self.camera.s, self.camera.s + 130.0
        colour = mixed(street.marking, 0.8, street.road, 0.2)
        plain = mixed((235.0, 235.0, 235.0), 0.85, street.road, 0.15)
        if street.edge_lines:
            for d in (street.left_m + street.shoulder_m, street.right_m - street.shoulder_m):
                self.strip(near, far, d - 0.07, d + 0.07, plain)
        dash, gap = street.dash_m
        for (left, way_left), (_, way_right) in zip(street.lanes, street.lanes[1:], strict=False):
            d = left + 0.5 * street.lane_m
            style = street.centre_marking if way_left != way_right else "dashed"
            ink_here = colour if way_left != way_right else plain
            if street.centre_marking == "none" and way_left == way_right:
                continue
            if style == "solid":
                self.strip(near, far, d - 0.07, d + 0.07, ink_here)
            elif style == "double":
                self.strip(near, far, d - 0.2, d - 0.08, ink_here)
                self.strip(near, far, d + 0.08, d + 0.2, ink_here)
            elif style == "dashed":
                first = np.floor(near / (dash + gap)) * (dash + gap)
                for s in np.arange(first, far, dash + gap):
                    self.strip(float(s), float(s) + dash, d - 0.07, d + 0.07, ink_here)

    def surface(self, item: Surface) -> None:
        camera, street = self.camera, self.street
        z = item.s - camera.s
        if z + item.length_m < camera.bottom_m * 0.7 or z > 70:
            return
        half_l, half_w = 0.5 * item.length_m, 0.5 * item.width_m
        if item.kind in ("patch", "seam", "tyre_mark"):
            for d in (item.d, item.d + 1.5) if item.kind == "tyre_mark" and item.shape[0] < 0.6 else (item.d,):
                outline = camera.strip(item.s - half_l, item.s + half_l, d - half_w, d + half_w)
                if outline is not None:
                    self.tone(outline, item.tone)
        elif item.kind in ("stain", "manhole", "puddle", "leaves"):
            ring = _blob(item.shape, 0.0 if item.kind == "manhole" else 0.5)
            along, across = item.s + ring[:, 1] * item.length_m, item.d + ring[:, 0] * item.width_m
            if along.min() - camera.s < camera.bottom_m * 0.6:
                return
            outline = camera.project(along, np.clip(across, street.left_m + 0.05, street.right_m - 0.05))
            if item.kind == "puddle":
                self.canvas.fill(outline, mixed(street.road, 0.45, self.sky, 0.35), None)
            elif item.kind == "leaves":
                self.canvas.fill(outline, mixed(street.road, 0.6, (150.0, 105.0, 50.0), 0.4), None)
            else:
                self.tone(outline, item.tone)
        elif item.kind == "crack":
            steps = np.linspace(0, 1, 16)
            along = item.s + (steps - 0.5) * (item.length_m if item.shape[0] < 0.7 else item.width_m)
            across = (
                item.d
                + (np.cumsum(np.array(item.shape) - 0.5) * 0.25)
                + (steps - 0.5) * (0 if item.shape[0] < 0.7 else item.length_m * 0.3)
            )
            keep = along - camera.s > camera.bottom_m * 0.8
            if keep.sum() > 1:
                points = camera.project(along[keep], np.clip(across[keep], street.left_m + 0.1, street.right_m - 0.1))
                thickness = max(1, round(0.03 * camera.focal_px / max(z, 3.0)))
                cv2.polylines(self.tones, [np.rint(np.clip(points, -8000, 8000) * 16).astype(np.int32)], False,
                              128 * item.tone, thickness, cv2.LINE_AA, 4)  # fmt: skip
        elif item.kind == "zebra":
            for d in np.arange(street.left_m + 0.3, street.right_m - 0.5, 1.0):
                self.strip(item.s, item.s + item.length_m, float(d), float(d) + 0.5, (225.0, 225.0, 220.0))
        elif item.kind == "stop_line":
            self.strip(
                item.s, item.s + item.length_m, item.d - half_w + 0.2, item.d + half_w - 0.2, (225.0, 225.0, 220.0)
            )
        elif item.kind == "arrow" and z > camera.bottom_m * 0.9:
            shape = np.array([(-0.08, 0), (0.08, 0), (0.08, 0.6), (0.3, 0.6), (0, 1), (-0.3, 0.6), (-0.08, 0.6)])
            self.canvas.fill(
                camera.project(item.s + shape[:, 1] * item.length_m, item.d + shape[:, 0]), (222.0, 222.0, 216.0), None
            )


def paint_ground(canvas: Canvas, street: Street, surfaces: Sequence[Surface], sky: Colour, wetness: float) -> None:
    """Paint everything below the horizon, lit; the shadows are those already drawn into `canvas.sunlight`."""
    plane = _Plane(canvas)
    top, light = plane.top, canvas.light
    canvas.rgb[top:] = np.array(street.terrain, np.uint8)
    canvas.semantic[top:] = PAVEMENT if street.terrain_is_paved else TERRAIN
    painter = _GroundPainter(canvas, street, sky)
    painter.layout()
    painter.markings()
    for item in surfaces:
        painter.surface(item)
    road_tone = painter.tones[top:]
    road_tone[canvas.semantic[top:] != ROAD] = 128
    rough = street.roughness * (1.0 - 0.5 * wetness)
    blotches = plane.sample(noise_tile("cloud"), 14.0, 45.0)
    grain = cv2.convertScaleAbs(
        plane.sample(noise_tile("grain"), 90.0, 9.0), alpha=0.6 * rough, beta=128.0 * (1 - 0.6 * rough)
    )
    tone = cv2.multiply(
        road_tone,
        cv2.convertScaleAbs(blotches, alpha=0.35 * rough + 0.1, beta=128 * (0.9 - 0.35 * rough)),
        scale=1 / 128,
    )
    tone = cv2.multiply(tone, grain, scale=1 / 128)
    grassy = canvas.semantic[top:] == TERRAIN
    if grassy.any():
        turf = plane.sample(noise_tile("leaf"), 45.0, 26.0)
        np.copyto(
            tone, cv2.multiply(cv2.convertScaleAbs(turf, alpha=0.55, beta=57), blotches, scale=1 / 128), where=grassy
        )
    paved = canvas.semantic[top:] == PAVEMENT
    if street.slab_m > 0 and paved.any():
        slabs = plane.sample(_slabs(95.0), TILE / 16 / street.slab_m, 30.0 * min(1.0, street.slab_m))
        np.copyto(tone, cv2.multiply(tone, slabs, scale=1 / 128), where=paved)
    sunlight = cv2.GaussianBlur(canvas.sunlight[top:], (0, 0), max(0.6, canvas.labels.shape[0] / 400))
    tone = cv2.multiply(tone, sunlight, scale=1 / 255)
    ground = canvas.rgb[top:]
    lit = cv2.multiply(ground, cv2.cvtColor(tone, cv2.COLOR_GRAY2RGB), scale=1 / 128)
    clear = np.exp(-light.haze_per_m * plane.depth).astype(np.float32)
    gain = np.asarray(light.gain, np.float32) * (1.0 - 0.25 * wetness)
    if light.headlight > 0:
        depth = plane.depth[:, None].astype(np.float32)
        x = plane.columns[None, :] * depth
        lamp = light.headlight * np.exp(-depth / 24.0 - (x / (2.5 + 0.3 * depth)) ** 2)
        result = lit * ((lamp[..., None] + gain) * clear[:, None, None])
    else:
        result = lit * (gain * clear[:, None])[:, None, :]
    result += (np.asarray(light.haze, np.float32) * (1.0 - clear[:, None]))[:, None, :]
    ground[:] = np.minimum(result, 255.0, out=result)
