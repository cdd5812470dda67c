"""The image being painted, far to near, together with its semantic and anomaly labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..camera import NEAR_M, Camera
from .sprites import PAD, Sprite, fixed_point
from .textures import Colour, Image

SEMANTIC_CLASSES: tuple[str, ...] = (
    "road", "pavement", "building", "fence", "pole", "sign",
    "vegetation", "terrain", "sky", "pedestrian", "car", "cyclist",
)  # fmt: skip
ROAD, PAVEMENT, BUILDING, FENCE, POLE, SIGN, VEGETATION, TERRAIN, SKY, PEDESTRIAN, CAR, CYCLIST = range(12)
VOID = 255
ANOMALY = -1

_SHIFT = 4


@dataclass(frozen=True)
class Light:
    """How bright things are and how they fade with depth.

    `gain` multiplies RGB, `haze` is the colour far things fade to with `haze_per_m`, `sun` is the ground displacement
    (x, z) of the shadow of a point 1 m high (None: no sun), `headlight` the strength of the own lamps.
    """

    gain: Colour
    haze: Colour
    haze_per_m: float
    sun: tuple[float, float] | None
    shadow: float
    headlight: float
    night: bool

    def matrix(self, z: float, x: float = 0.0, tone: float = 1.0, emissive: bool = False) -> npt.NDArray[np.float64]:
        """3x4 colour transform of something at depth z and lateral position x."""
        lamp = self.headlight * np.exp(-z / 24.0 - (x / (2.5 + 0.3 * z)) ** 2)
        clear = np.exp(-self.haze_per_m * z)
        matrix = np.zeros((3, 4))
        for i in range(3):
            matrix[i, i] = (1.0 if emissive else self.gain[i] + lamp) * clear * tone
            matrix[i, 3] = self.haze[i] * (1.0 - clear)
        return matrix

    def colour(self, colour: Colour, z: float, x: float = 0.0, emissive: float = 0.0) -> Colour:
        """A colour as seen at depth z; the emissive part does not need light."""
        m = self.matrix(z, x)
        clear = np.exp(-self.haze_per_m * z)
        r, g, b = (min(255.0, c * max(m[i, i], emissive * clear) + m[i, 3]) for i, c in enumerate(colour))
        return (float(r), float(g), float(b))


def _painted(matrix: npt.NDArray[np.float64], paint: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    """A light's colour transform, after `paint` (3, 3) has turned a sprite's channels into RGB."""
    return matrix if paint is None else np.concatenate([matrix[:, :3] @ paint, matrix[:, 3:]], 1)


class Canvas:
    """RGB image, semantic ids and anomaly labels, painted together; `glows` are added at the end."""

    def __init__(self, camera: Camera, light: Light, time_s: float) -> None:
        self.camera, self.light, self.time_s = camera, light, time_s
        height, width = camera.size_hw
        self.rgb: Image = np.zeros((height, width, 3), np.uint8)
        self.semantic: Image = np.full((height, width), SKY, np.uint8)
        self.labels: Image = np.zeros((height, width), np.uint8)
        self.sunlight: Image = np.full((height, width), 255, np.uint8)
        self.glows: list[tuple[float, float, float, Colour]] = []
        self.families: list[str] = []

    def fill(self, outline: object, colour: Colour, semantic: int | None) -> None:
        """Fill an image polygon with an (already lit) colour."""
        corners = [fixed_point(outline)]
        cv2.fillPoly(self.rgb, corners, colour, cv2.LINE_AA, _SHIFT)
        if semantic is not None:
            cv2.fillPoly(self.semantic, corners, semantic, cv2.LINE_8, _SHIFT)
            cv2.fillPoly(self.labels, corners, 0, cv2.LINE_8, _SHIFT)

    def sees(self, s_from: float, s_to: float, d_from: float, d_to: float) -> bool:
        """Whether ground between two distances and two offsets, or what stands on it, can be in the image."""
        near = max(s_from, self.camera.s + NEAR_M)
        if s_to < near:
            return False
        s = np.array([near, near, s_to, s_to])
        bearing = self.camera.lateral(s, np.array([d_from, d_to, d_from, d_to])) / (s - self.camera.s)
        limit = 0.52 * self.camera.size_hw[1] / self.camera.focal_px
        return bool(bearing.min() < limit and bearing.max() > -limit)

    def shade(self, outline: object, darkness: float) -> None:
        """Put a ground polygon into shadow."""
        cv2.fillPoly(self.sunlight, [fixed_point(outline)], 255.0 * (1.0 - darkness), cv2.LINE_AA, _SHIFT)

    def _window(self, corners: npt.NDArray[np.float64]) -> tuple[int, int, int, int] | None:
        height, width = self.camera.size_hw
        left, top = np.floor(corners.min(0)) - 1
        right, bottom = np.ceil(corners.max(0)) + 2
        x0, y0, x1, y1 = int(max(left, 0)), int(max(top, 0)), int(min(right, width)), int(min(bottom, height))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def _blend(self, window: tuple[int, int, int, int], rgba: Image, semantic: int) -> None:
        x0, y0, x1, y1 = window
        region = self.rgb[y0:y1, x0:x1]
        alpha = cv2.extractChannel(rgba, 3)
        weight = alpha.astype(np.float32) * np.float32(1 / 255)
        region[:] = cv2.blendLinear(
            cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.ascontiguousarray(region), weight, 1.0 - weight
        )
        classes, labels = self.semantic[y0:y1, x0:x1], self.labels[y0:y1, x0:x1]
        if semantic == ANOMALY:
            # The mixed pixels of the antialiased edge, and one more around them, belong to nobody.
            edge = cv2.dilate((alpha > 24).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            labels[edge] = VOID
            labels[alpha >= 200] = 1
            classes[edge] = VOID
        else:
            solid = alpha >= 128
            classes[solid] = semantic
            labels[solid] = 0

    def paste(
        self, sprite: Sprite, s: float, d: float, semantic: int, y: float = 0.0, opacity: float = 1.0,
        flip: bool = False, paint: npt.NDArray[np.float64] | None = None,
    ) -> None:  # fmt: skip
        """Stand a sprite, facing the camera, on the road point (s, d) with its foot at height y.

        `paint`, (3, 3), turns the sprite's channels into RGB.
        """
        z = s - self.camera.s
        if z < NEAR_M:
            return
        x = float(self.camera.lateral(s, d))
        column, row = self.camera.pixels(x, y, z)
        scale = self.camera.focal_px / z / sprite.px_per_m
        height, width = sprite.rgba.shape[:2]
        left = column - 0.5 * width * scale
        top = row - (height - PAD) * scale
        matrix = _painted(self.light.matrix(z, x), paint)
        corners = np.array([(left, top), (left + width * scale, top + height * scale)])
        transform = np.array([[scale, 0, left + 0.5 * scale], [0, scale, top + 0.5 * scale], [0, 0, 1]])
        self._warp(sprite, transform, corners, matrix, semantic, opacity, flip)

    def paste_quad(
        self, sprite: Sprite, quad: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64], semantic: int
    ) -> None:
        """Stretch a sprite over the image quadrilateral (top left, top right, bottom right, bottom left)."""
        height, width = sprite.rgba.shape[:2]
        inner = (
            np.array([(PAD, PAD), (width - PAD, PAD), (width - PAD, height - PAD), (PAD, height - PAD)], np.float32)
            - 0.5
        )
        transform = np.asarray(cv2.getPerspectiveTransform(inner, quad.astype(np.float32)), np.float64)
        self._warp(sprite, transform, quad, matrix, semantic, 1.0, False)

    def _warp(
        self, sprite: Sprite, transform: npt.NDArray[np.float64], corners: npt.NDArray[np.float64],
        matrix: npt.NDArray[np.float64], semantic: int, opacity: float, flip: bool,
    ) -> None:  # fmt: skip
        window = self._window(corners)
        if window is None:
            return
        x0, y0, x1, y1 = window
        shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], np.float64) @ transform
        if flip:
            shift = shift @ np.array([[-1, 0, sprite.rgba.shape[1] - 1], [0, 1, 0], [0, 0, 1]], np.float64)
        size = (x1 - x0, y1 - y0)
        lit = np.zeros((4, 5))
        lit[:3, :3], lit[:3, 4], lit[3, 3] = matrix[:, :3], matrix[:, 3], opacity
        # Light whichever is smaller, the drawing or its place in the image.
        early = sprite.rgba.shape[0] * sprite.rgba.shape[1] < size[0] * size[1]
        rgba = cv2.transform(sprite.rgba, lit) if early else sprite.rgba
        if transform[2, 0] == 0 and transform[2, 1] == 0:
            rgba = cv2.warpAffine(rgba, shift[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        else:
            rgba = cv2.warpPerspective(rgba, shift, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if not early:
            rgba = cv2.transform(rgba, lit)
        self._blend(window, rgba, semantic)  # type: ignore[arg-type]

    def wall(self, sprite: Sprite, s_from: float, s_to: float, d: float, y_from: float, y_to: float, semantic: int,
             tone: float = 1.0, lean: float = 0.0, emissive: bool = False,
             paint: npt.NDArray[np.float64] | None = None) -> None:  # fmt: skip
        """A plane along the road, from (s_from, d) to (s_to, d); the sprite's left edge is the near end.

        The upper edge is moved by `lean` metres; an emissive sprite is already lit.
        """
        near = max(s_from, self.camera.s + NEAR_M)
        if s_to <= near + 0.05:
            return
        lateral = self.camera.lateral(np.array([near, s_to]), d)
        quad = self.camera.pixels(
            lateral[[0, 1, 1, 0]] + [lean, lean, 0.0, 0.0],
            [y_to, y_to, y_from, y_from],
            np.array([near, s_to, s_to, near]) - self.camera.s,
        )
        if quad[:, 0].max() < 0 or quad[:, 0].min() > self.camera.size_hw[1]:
            return
        if near > s_from:
            cut = int((near - s_from) / (s_to - s_from) * (sprite.rgba.shape[1] - 2 * PAD))
            sprite = Sprite(sprite.rgba[:, cut:], sprite.width_m, sprite.height_m, sprite.px_per_m)
        middle = 0.5 * (near + s_to) - self.camera.s
        self.paste_quad(
            sprite,
            quad,
            _painted(self.light.matrix(middle, float(lateral.mean()) * 0.6, tone, emissive), paint),
            semantic,
        )

    def front(self, sprite: Sprite, s: float, d_from: float, d_to: float, y_from: float, y_to: float, semantic: int,
              tone: float = 1.0, emissive: bool = False,
              paint: npt.NDArray[np.float64] | None = None) -> None:  # fmt: skip
        """A vertical plane across the road at s; the sprite's left edge is at d_from."""
        z = s - self.camera.s
        if z < NEAR_M:
            return
        x = self.camera.lateral(s, np.array([d_from, d_to, d_to, d_from]))
        quad = self.camera.pixels(x, [y_to, y_to, y_from, y_from], z)
        self.paste_quad(sprite, quad, _painted(self.light.matrix(z, float(x.mean()), tone, emissive), paint), semantic)

    def contact_shadow(self, s: float, d: float, width_m: float, length_m: float, darkness: float) -> None:
        """A soft dark patch on the ground under something."""
        z = s - self.camera.s
        if z - length_m < NEAR_M:
            return
        x = float(self.camera.lateral(s, d))
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        for size, dark in ((1.25, 0.35), (1.0, 0.5), (0.8, 0.7)):
            ring = self.camera.pixels(
                x + 0.5 * width_m * size * np.cos(turn), 0.0, z + 0.5 * length_m * size * np.sin(turn)
            )
            self.shade(ring, darkness * dark)

    def cast_shadow(self, sprite: Sprite, s: float, d: float, reach_m: float = 40.0) -> None:
        """The sun's shadow of a standing sprite, thrown on the ground."""
        z = s - self.camera.s
        if self.light.sun is None or z > reach_m:
            return
        x = float(self.camera.lateral(s, d))
        dx, dz = (v * sprite.height_m for v in self.light.sun)
        half = 0.5 * sprite.width_m
        depth = np.array([z + dz, z + dz, z, z])
        if depth.min() < NEAR_M:
            return
        quad = self.camera.pixels([x - half + dx, x + half + dx, x + half, x - half], 0.0, depth)
        window = self._window(quad)
        if window is None or abs(quad[0, 1] - quad[2, 1]) < 1.0:
            return
        x0, y0, x1, y1 = window
        height, width = sprite.rgba.shape[:2]
        inner = np.array([(PAD, PAD), (width - PAD, PAD), (width - PAD, height - PAD), (PAD, height - PAD)], np.float32)
        transform = cv2.getPerspectiveTransform(inner, (quad - (x0, y0)).astype(np.float32))
        cover = cv2.warpPerspective(
            cv2.extractChannel(sprite.rgba, 3), transform, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR
        )
        region = self.sunlight[y0:y1, x0:x1]
        cv2.min(region, cv2.convertScaleAbs(cover, alpha=-self.light.shadow, beta=255.0), dst=region)

    def glow(self, s: float, d: float, y: float, radius_m: float, colour: Colour) -> None:
        """Remember a lamp to be added to the finished image."""
        z = s - self.camera.s
        if z > NEAR_M:
            column, row = self.camera.pixels(self.camera.lateral(s, d), y, z)
            fade = np.exp(-self.light.haze_per_m * z)
            radius = max(0.6, self.camera.focal_px * radius_m / z)
            self.glows.append(
                (float(column), float(row), radius, (colour[0] * fade, colour[1] * fade, colour[2] * fade))
            )
