"""Outlines of things of no particular kind: lumps, shards, bodies with limbs, piles and frames."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Rng = np.random.Generator

_SIDE = 192
_LEAST_FILLED = 0.03  # of the canvas; thinner drawings are drawn again


def silhouette(rng: Rng) -> Mask:
    """Draw the outline of a thing.

    Args:
        rng: random numbers.

    Returns:
        (h, w) uint8 coverage, 0 to 255, cut to the thing: its lowest point is in the last row.
    """
    while True:
        canvas: Mask = np.zeros((_SIDE, _SIDE), np.uint8)
        _KINDS[int(rng.integers(len(_KINDS)))](rng, canvas)
        if rng.random() < 0.4:
            canvas = _turned(rng, canvas)
        if rng.random() < 0.25:
            _holes(rng, canvas)
        rows, columns = np.flatnonzero(canvas.max(1) > 127), np.flatnonzero(canvas.max(0) > 127)
        if np.count_nonzero(canvas > 127) >= _LEAST_FILLED * canvas.size:
            return np.ascontiguousarray(canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _fill(canvas: Mask, points: NDArray[np.float64], ink: int = 255) -> None:
    """Fill a polygon given in the unit square."""
    cv2.fillPoly(canvas, [np.rint(points * (_SIDE * 16)).astype(np.int32)], ink, cv2.LINE_AA, 4)


def _ellipse(canvas: Mask, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> None:
    centre, axes = (round(x * _SIDE), round(y * _SIDE)), (max(1, round(rx * _SIDE)), max(1, round(ry * _SIDE)))
    cv2.ellipse(canvas, centre, axes, turn, 0, 360, 255, -1, cv2.LINE_AA)


def _lump(rng: Rng, canvas: Mask) -> None:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(turn)
    roughness = rng.uniform(0.1, 0.9)
    for wave in range(2, 9):
        radius += rng.uniform(0, roughness / wave) * np.cos(wave * turn + rng.uniform(0, 6.3))
    radius = 0.45 * np.maximum(radius, 0.2) / radius.max()
    _fill(canvas, 0.5 + np.stack([np.cos(turn), np.sin(turn)], -1) * radius[:, None])


def _shard(rng: Rng, canvas: Mask) -> None:
    turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    _fill(canvas, 0.5 + np.stack([np.cos(turn), np.sin(turn)], -1) * rng.uniform(0.2, 0.48, len(turn))[:, None])


def _slab(rng: Rng, canvas: Mask) -> None:
    """Draw a box or a board with slightly moved corners."""
    half_x, half_y = rng.uniform(0.1, 0.45, 2)
    corners = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)])
    _fill(canvas, 0.5 + corners + rng.normal(0, 0.04, (4, 2)))


def _body(rng: Rng, canvas: Mask) -> None:
    """Draw an oblong body on limbs, with or without a head, like most animals and many machines."""
    middle, half_x, half_y = rng.uniform(0.35, 0.55), rng.uniform(0.14, 0.34), rng.uniform(0.07, 0.2)
    _ellipse(canvas, 0.5, middle, half_x, half_y, float(rng.uniform(-12, 12)))
    for _ in range(int(rng.integers(0, 3))):
        _ellipse(canvas, 0.5 + rng.uniform(-0.7, 0.7) * half_x, middle + rng.uniform(-0.6, 0.4) * half_y,
                 half_x * rng.uniform(0.3, 0.7), half_y * rng.uniform(0.6, 1.3))  # fmt: skip
    foot, thickness = rng.uniform(0.75, 0.97), max(2, round(rng.uniform(0.02, 0.09) * _SIDE))
    for x in np.linspace(-0.8, 0.8, int(rng.integers(2, 6))) + rng.normal(0, 0.08):
        knee = (0.5 + x * half_x + rng.normal(0, 0.03), 0.5 * (middle + foot))
        end = (knee[0] + rng.normal(0, 0.05), foot + rng.normal(0, 0.015))
        path = np.array([(0.5 + x * half_x, middle), knee, end]) * _SIDE
        cv2.polylines(canvas, [np.rint(path).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    way = float(rng.choice([-1.0, 1.0]))
    if rng.random() < 0.8:
        neck = (0.5 + way * half_x * rng.uniform(0.7, 0.95), middle)
        head = (0.5 + way * (half_x + rng.uniform(0.0, 0.14)), middle - rng.uniform(-0.1, 0.3))
        path = np.array([neck, head]) * _SIDE
        cv2.polylines(canvas, [np.rint(path).astype(np.int32)], False, 255, 2 * thickness, cv2.LINE_AA)
        _ellipse(canvas, *head, rng.uniform(0.05, 0.12), rng.uniform(0.04, 0.1), float(rng.uniform(-60, 60)))


def _pile(rng: Rng, canvas: Mask) -> None:
    width = rng.uniform(0.2, 0.45)
    for _ in range(int(rng.integers(3, 12))):
        x = 0.5 + rng.uniform(-1, 1) * width
        y = 0.95 - rng.uniform(0.0, 0.7) * (1 - abs(x - 0.5) / width)
        half_x, half_y = rng.uniform(0.04, 0.2, 2)
        _ellipse(canvas, x, y, half_x, half_y, float(rng.uniform(0, 180)))


def _frame(rng: Rng, canvas: Mask) -> None:
    """Bars: furniture, branches, bicycles."""
    joints = rng.uniform(0.08, 0.92, (int(rng.integers(4, 9)), 2)) * _SIDE
    if rng.random() < 0.5:
        joints[1::2, 0] = joints[0::2, 0][: len(joints[1::2])]  # upright bars
    thickness = max(3, round(rng.uniform(0.025, 0.1) * _SIDE))
    cv2.polylines(canvas, [np.rint(joints).astype(np.int32)], False, 255, thickness, cv2.LINE_AA)


def _union(rng: Rng, canvas: Mask) -> None:
    for _ in range(int(rng.integers(2, 5))):
        part: Mask = np.zeros_like(canvas)
        (_lump, _shard, _slab)[int(rng.integers(3))](rng, part)
        scale = rng.uniform(0.3, 0.8)
        move = rng.uniform(0.05, 0.95 - scale, 2) * _SIDE
        matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
        np.maximum(canvas, cv2.warpAffine(part, matrix, (_SIDE, _SIDE)), out=canvas)


def _turned(rng: Rng, canvas: Mask) -> Mask:
    matrix = cv2.getRotationMatrix2D((_SIDE / 2, _SIDE / 2), float(rng.normal(0, 25)), 0.85)
    return np.asarray(cv2.warpAffine(canvas, matrix, (_SIDE, _SIDE)), np.uint8)


def _holes(rng: Rng, canvas: Mask) -> None:
    for _ in range(int(rng.integers(1, 4))):
        x, y = (int(value) for value in rng.integers(0, _SIDE, 2))
        half_x, half_y = (int(value) for value in rng.integers(3, _SIDE // 8, 2))
        cv2.ellipse(canvas, (x, y), (half_x, half_y), float(rng.uniform(0, 180)), 0, 360, 0, -1, cv2.LINE_AA)


_KINDS: tuple[Callable[[Rng, Mask], None], ...] = (_lump, _shard, _slab, _body, _body, _pile, _frame, _union)
