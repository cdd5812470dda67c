"""Light, sky and weather of a world, and the camera's lens and sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from .drawing.canvas import BUILDING, ROAD, SKY, VEGETATION, Canvas, Light
from .drawing.textures import Colour, Image, hsv, noise_patch, scaled

CONDITIONS = ("sunny", "clear", "overcast", "rain", "fog", "dusk", "night")


@dataclass(frozen=True)
class Weather:
    """One of `CONDITIONS` with its numbers; all of it is fixed for a world."""

    condition: str
    light: Light
    zenith: Colour
    horizon: Colour
    clouds: float
    cloud_colour: Colour
    wetness: float
    rain: float
    seed: int


@dataclass(frozen=True)
class Lens:
    """Exposure, colour, blur, noise and compression of the camera."""

    gains: Colour
    gamma: float
    contrast: float
    vignette: float
    blur_px: float
    noise: float
    chroma_noise: float
    jpeg_quality: int  # 0: none
    bonnet: float  # fraction of the image height that the own vehicle covers
    bonnet_colour: Colour


def draw_weather(rng: np.random.Generator) -> Weather:
    """Sample the weather."""
    condition = str(rng.choice(CONDITIONS, p=(0.3, 0.12, 0.2, 0.12, 0.08, 0.1, 0.08)))
    night, dusk = condition == "night", condition == "dusk"
    cold = rng.uniform(0.55, 0.62)
    zenith, horizon = {
        "sunny": (hsv(cold, rng.uniform(0.35, 0.75), rng.uniform(0.6, 0.95)), hsv(cold, rng.uniform(0.05, 0.25), 0.97)),
        "clear": (hsv(cold, rng.uniform(0.2, 0.5), 0.85), hsv(cold, 0.08, 0.97)),
        "overcast": (hsv(cold, 0.05, rng.uniform(0.6, 0.85)), hsv(cold, 0.03, rng.uniform(0.8, 0.97))),
        "rain": (hsv(cold, 0.08, rng.uniform(0.4, 0.65)), hsv(cold, 0.05, rng.uniform(0.6, 0.8))),
        "fog": (hsv(cold, 0.03, rng.uniform(0.7, 0.9)), hsv(cold, 0.02, rng.uniform(0.75, 0.92))),
        "dusk": (
            hsv(rng.uniform(0.6, 0.72), 0.45, rng.uniform(0.3, 0.5)),
            hsv(rng.uniform(0.02, 0.12), rng.uniform(0.3, 0.65), 0.85),
        ),
        "night": (hsv(0.64, 0.6, rng.uniform(0.03, 0.08)), hsv(rng.choice([0.08, 0.62]), 0.4, rng.uniform(0.08, 0.18))),
    }[condition]
    bright = {"sunny": 1.12, "clear": 1.0, "overcast": 0.86, "rain": 0.68, "fog": 0.85, "dusk": 0.52, "night": 0.14}[
        condition
    ]
    bright *= float(rng.uniform(0.85, 1.12))
    tint = {"sunny": (1.04, 1.0, 0.92), "dusk": (1.12, 0.94, 0.88), "night": (1.0, 0.98, 1.0)}.get(
        condition, (0.98, 1.0, 1.04)
    )
    sun = None
    if condition == "sunny":
        azimuth, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.8)
        sun = (float(length * np.sin(azimuth)), float(length * np.cos(azimuth)))
    haze = {"fog": rng.uniform(0.014, 0.045), "rain": rng.uniform(0.004, 0.01), "night": 0.004}.get(
        condition, rng.uniform(0.0008, 0.004)
    )
    light = Light(
        gain=(bright * tint[0], bright * tint[1], bright * tint[2]),
        haze=scaled(horizon, 0.97),
        haze_per_m=float(haze),
        sun=sun,
        shadow=float(rng.uniform(0.4, 0.7)),
        headlight=float(rng.uniform(0.5, 0.95) if night else (rng.uniform(0.0, 0.25) if dusk else 0.0)),
        night=night or (dusk and rng.random() < 0.4),
    )
    wet = condition == "rain" or (condition in ("overcast", "night") and rng.random() < 0.25)
    return Weather(
        condition=condition,
        light=light,
        zenith=zenith,
        horizon=horizon,
        clouds=float(rng.uniform(0, 1)) if not night else 0.2,
        cloud_colour=scaled(horizon, 1.02 if condition in ("sunny", "clear") else 0.8),
        wetness=float(rng.uniform(0.4, 1.0)) if wet else 0.0,
        rain=float(rng.uniform(0.2, 1.0)) if condition == "rain" else 0.0,
        seed=int(rng.integers(2**31)),
    )


def draw_lens(rng: np.random.Generator) -> Lens:
    """Sample the camera's imaging properties."""
    exposure = float(np.exp(rng.normal(0.02, 0.16)))
    white = rng.normal(0, 0.035, 3)
    return Lens(
        gains=tuple(exposure * (1 + float(v)) for v in white),  # type: ignore[arg-type]
        gamma=float(np.exp(rng.normal(0, 0.12))),
        contrast=float(rng.uniform(0.85, 1.2)),
        vignette=float(rng.uniform(0, 0.35)) if rng.random() < 0.6 else 0.0,
        blur_px=float(rng.uniform(0.3, 1.1)) if rng.random() < 0.5 else 0.0,
        noise=float(rng.uniform(0.5, 3.0) if rng.random() < 0.75 else rng.uniform(3.0, 9.0)),
        chroma_noise=float(rng.uniform(0, 0.6)),
        jpeg_quality=int(rng.integers(35, 92)) if rng.random() < 0.35 else 0,
        bonnet=float(rng.uniform(0.03, 0.1)) if rng.random() < 0.15 else 0.0,
        bonnet_colour=hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.08, 0.7)),
    )


def paint_sky(canvas: Canvas, weather: Weather, skyline: Colour, built: bool) -> None:
    """Sky gradient, clouds and the far skyline of trees, hills or houses."""
    height, width = canvas.labels.shape
    horizon = canvas.camera.horizon_px
    rows = int(np.clip(np.ceil(horizon) + 1, 1, height))
    ramp = np.clip(np.arange(rows) / max(horizon, 1.0), 0, 1)[:, None] ** 1.5
    column = np.asarray(weather.zenith) * (1 - ramp) + np.asarray(weather.horizon) * ramp
    canvas.rgb[:rows] = column.astype(np.uint8)[:, None, :]
    rng = np.random.default_rng(weather.seed)
    shift = -canvas.camera.yaw * canvas.camera.focal_px
    if weather.clouds > 0.15:
        small = noise_patch("cloud", rng, (rows, max(8, width // 2)), 0.5).astype(np.float32)
        cover = np.clip((small - 190 + 110 * weather.clouds) / 70.0, 0, 0.9)
        move = np.array([[2.0, 0, shift], [0, 1.0, 0]], np.float64)
        cover = cv2.warpAffine(cover, move, (width, rows), borderMode=cv2.BORDER_REFLECT)
        cloud: Image = np.empty((rows, width, 3), np.uint8)
        cloud[:] = weather.cloud_colour
        canvas.rgb[:rows] = cv2.blendLinear(cloud, np.ascontiguousarray(canvas.rgb[:rows]), cover, 1 - cover)
    x = np.linspace(-0.3, 1.3, 121) * width
    for layer in range(2):
        rough = rng.random(121)
        smooth = np.convolve(np.pad(rng.random(121), 6, mode="wrap"), np.ones(13) / 13, "valid")
        if built and layer == 1:
            profile = np.repeat(rng.uniform(0.02, 0.1, 31), 4)[:121]
        else:
            profile = (0.02 + 0.1 * smooth * (2 - layer) + 0.012 * rough) * rng.uniform(0.5, 1.0)
        depth = 420.0 if layer == 0 else 200.0
        outline = np.stack([x + shift, horizon - profile * canvas.camera.focal_px * 0.55], -1)
        outline = np.concatenate([outline, [(2 * width, horizon + 3), (-width, horizon + 3)]])
        ink = (150.0, 145.0, 140.0) if built and layer == 1 else scaled(skyline, 0.8)
        canvas.fill(
            outline, canvas.light.colour(ink, depth * 0.7, 1e3), BUILDING if built and layer == 1 else VEGETATION
        )


@cache
def _sensor_noise() -> npt.NDArray[np.int8]:
    bank = np.random.default_rng(20240).standard_normal((640, 1024, 3), np.float32) * 32.0
    noise: npt.NDArray[np.int8] = np.clip(bank, -127, 127).astype(np.int8)
    return noise


@cache
def _vignette(size_hw: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    y, x = np.ogrid[-1 : 1 : size_hw[0] * 1j, -1 : 1 : size_hw[1] * 1j]
    return np.repeat((0.5 * (x**2 + y**2))[..., None], 3, 2).astype(np.float32)


def _reflections(canvas: Canvas, wetness: float) -> None:
    """Mirror what is above the horizon in a wet road, blurred along the columns."""
    height = canvas.labels.shape[0]
    top = int(np.clip(np.ceil(canvas.camera.horizon_px) + 1, 1, height - 1))
    rows = np.clip(2 * top - np.arange(top, height) * 1, 0, top)
    mirror = cv2.blur(canvas.rgb[rows], (3, max(3, height // 18)))
    wet = canvas.semantic[top:] == ROAD
    mixed = cv2.addWeighted(canvas.rgb[top:], 1 - 0.42 * wetness, mirror, 0.42 * wetness, 0)
    np.copyto(canvas.rgb[top:], mixed, where=wet[..., None])


def _add_glows(canvas: Canvas) -> None:
    height, width = canvas.labels.shape
    factor = 4 if min(height, width) > 128 else 1
    small = np.zeros((height // factor, width // factor, 3), np.uint8)
    for column, row, radius, colour in canvas.glows:
        if -20 < column < width + 20 and 0 < row < height:
            centre = (round(column / factor * 16), round(row / factor * 16))
            cv2.circle(small, centre, max(8, round(radius / factor * 16)), colour, -1, cv2.LINE_AA, 4)
    halo = cv2.GaussianBlur(small, (0, 0), max(1.0, height / factor / 45))
    small = cv2.addWeighted(small, 0.6, halo, 1.2, 0)
    cv2.add(canvas.rgb, cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dst=canvas.rgb)


def _rain(canvas: Canvas, strength: float, rng: np.random.Generator) -> None:
    height, width = canvas.labels.shape
    streaks = np.zeros((height, width), np.uint8)
    count = int(140 * strength)
    x, y = rng.uniform(0, width, count), rng.uniform(-0.1, 1, count) * height
    length = rng.uniform(0.02, 0.08, count) * height
    lean = rng.uniform(-0.15, 0.15)
    lines = np.stack([np.stack([x, y], -1), np.stack([x + lean * length, y + length], -1)], 1)
    cv2.polylines(streaks, list(np.rint(lines * 16).astype(np.int32)), False, 255, 1, cv2.LINE_AA, 4)
    faint = cv2.convertScaleAbs(streaks, alpha=0.16)
    cv2.add(canvas.rgb, cv2.cvtColor(faint, cv2.COLOR_GRAY2RGB), dst=canvas.rgb)
    for cx, cy, size in zip(*rng.random((3, int(10 * strength))), strict=True):
        radius = max(1, int((0.004 + 0.012 * size) * height))
        px, py = int(cx * width), int(cy * height)
        x0, y0, x1, y1 = (
            max(0, px - radius),
            max(0, py - radius),
            min(width, px + radius + 1),
            min(height, py + radius + 1),
        )
        region = canvas.rgb[y0:y1, x0:x1]
        drop = np.zeros(region.shape[:2], np.uint8)
        cv2.circle(drop, (px - x0, py - y0), radius, 255, -1)
        region[drop > 0] = cv2.blur(region, (2 * radius + 1, 2 * radius + 1))[::-1][drop > 0]


def finish(canvas: Canvas, weather: Weather, lens: Lens, frame: int) -> Image:
    """Weather in the air, the own bonnet, lens and sensor; returns the finished image (H, W, 3) uint8."""
    height, width = canvas.labels.shape
    rng = np.random.default_rng([weather.seed, frame])
    if weather.wetness > 0:
        _reflections(canvas, weather.wetness)
    if canvas.glows:
        _add_glows(canvas)
    if weather.rain > 0:
        _rain(canvas, weather.rain, rng)
    if lens.bonnet > 0:
        x = np.linspace(-0.1, 1.1, 30)
        y = 1.0 - lens.bonnet * np.clip(1.25 - 4 * (x - 0.5) ** 2, 0, 1)
        outline = np.concatenate(
            [np.stack([x * width, y * height], -1), [(1.2 * width, 1.2 * height), (-0.2 * width, 1.2 * height)]]
        )
        canvas.fill(outline, canvas.light.colour(lens.bonnet_colour, 1.0, 9.0), SKY)
        covered = np.zeros((height, width), np.uint8)
        cv2.fillPoly(covered, [np.rint(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
        canvas.labels[covered > 0] = 255
    image: Image = canvas.rgb
    if lens.blur_px > 0:
        image = cv2.GaussianBlur(image, (0, 0), lens.blur_px * max(height / 540, 0.4))  # type: ignore[assignment]
    if lens.vignette > 0:
        image = cv2.multiply(image, 1.0 - lens.vignette * _vignette((height, width)), dtype=cv2.CV_8U)  # type: ignore[assignment]
    level = np.linspace(0, 1, 256)
    # In the dark a steeper curve would leave nothing to see.
    contrast, gamma = (1.0, min(lens.gamma, 0.9)) if weather.condition == "night" else (lens.contrast, lens.gamma)
    curve = ((level - 0.5) * contrast + 0.5).clip(0, 1) ** gamma
    table = np.stack([np.clip(curve * g, 0, 1) * 255 for g in lens.gains], -1).astype(np.uint8)
    image = cv2.LUT(image, table[None])  # type: ignore[assignment]
    bank = _sensor_noise()
    top, left = (int(v) for v in rng.integers(0, (bank.shape[0], bank.shape[1])))
    rows, columns = (top + np.arange(height)) % bank.shape[0], (left + np.arange(width)) % bank.shape[1]
    coloured = np.ascontiguousarray(bank[rows][:, columns])
    grey = cv2.merge([np.ascontiguousarray(coloured[..., 0])] * 3)
    noise = cv2.addWeighted(grey, 1 - lens.chroma_noise, coloured, lens.chroma_noise, 0)
    amount = lens.noise * (1.8 if weather.light.night else 1.0) / 32.0
    image = cv2.addWeighted(image, 1.0, noise, amount, 0, dtype=cv2.CV_8U)  # type: ignore[assignment]
    if lens.jpeg_quality:
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, lens.jpeg_quality])
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return np.ascontiguousarray(image)
