"""What kind of street it is: cross-section, colours and markings, drawn once per world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import CentreLine
from .drawing.textures import Colour, hsv

STREETS = ("city", "suburb", "village", "country", "highway", "lane")


@dataclass(frozen=True)
class Street:
    """A street's cross-section in metres to the right of its centre line, and its looks."""

    kind: str
    line: CentreLine
    lane_m: float
    lanes: tuple[tuple[float, int], ...]  # (offset of the lane's middle, +1 with us or -1 against us)
    left_m: float  # road edges
    right_m: float
    shoulder_m: float
    pavement_m: tuple[float, float]  # width of the pavement on the left and on the right, 0 for none
    verge_m: float  # grass between the road or pavement and whatever stands beside it
    ego_d: float
    speed_m_s: float
    road: Colour
    roughness: float
    pavement: Colour
    kerb: Colour
    slab_m: float
    terrain: Colour
    terrain_is_paved: bool
    marking: Colour
    edge_lines: bool
    centre_marking: str  # none, dashed, solid, double
    dash_m: tuple[float, float]
    leaf_hue: float
    leaf_value: float
    traffic: float
    crowd: float

    def edge(self, side: int) -> float:
        """Offset of the outer edge of road and pavement on a side (-1 left, +1 right)."""
        return self.right_m + self.pavement_m[1] if side > 0 else self.left_m - self.pavement_m[0]


def draw_street(rng: np.random.Generator) -> Street:
    """Sample a street."""
    kind = str(rng.choice(STREETS, p=(0.34, 0.2, 0.12, 0.14, 0.12, 0.08)))
    built = kind in ("city", "suburb", "village")
    curve = 0.4 if kind == "city" else 1.0
    line = CentreLine(
        amplitudes_m=(float(rng.uniform(0, 14) * curve), float(rng.uniform(0, 2.5) * curve)),
        lengths_m=(float(rng.uniform(70, 140)), float(rng.uniform(28, 50))),
        phases=(float(rng.uniform(0, 6.3)), float(rng.uniform(0, 6.3))),
    )
    lane = float(rng.uniform(3.5, 3.8) if kind == "highway" else rng.uniform(2.9, 3.6))
    each_way = {"highway": 2 + int(rng.random() < 0.4), "city": 1 + int(rng.random() < 0.3)}.get(kind, 1)
    one_way = kind == "highway" or (kind in ("city", "lane") and rng.random() < 0.3)
    drive_right = rng.random() < 0.75
    offsets = (np.arange(each_way * (1 if one_way else 2)) - 0.5 * (each_way * (1 if one_way else 2) - 1)) * lane
    lanes = tuple((float(o), 1 if one_way or (o > 0) == drive_right else -1) for o in offsets)
    own = [o for o, direction in lanes if direction > 0]
    shoulder = {"highway": 2.5, "city": 2.3 * (rng.random() < 0.6), "lane": 0.2}.get(kind, float(rng.uniform(0.2, 0.6)))
    half = 0.5 * lane * len(lanes)
    paved = {"city": 1.0, "suburb": 0.9, "village": 0.75}.get(kind, 0.0)
    pavement = tuple(
        float(rng.uniform(1.5, 4.5 if kind == "city" else 2.5)) if rng.random() < paved else 0.0 for _ in range(2)
    )
    grey = float(rng.uniform(58, 165))
    warmth = float(rng.normal(0, 5))
    stone = float(rng.uniform(95, 190))
    stone_warmth = float(rng.uniform(-6, 22))
    season = rng.random()
    grass = (
        hsv(rng.uniform(0.2, 0.3), rng.uniform(0.3, 0.65), rng.uniform(0.3, 0.6))
        if season < 0.65
        else hsv(rng.uniform(0.08, 0.16), rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.7))
    )
    yard = built and rng.random() < (0.6 if kind == "city" else 0.15)
    return Street(
        kind=kind,
        line=line,
        lane_m=lane,
        lanes=lanes,
        left_m=-half - float(shoulder),
        right_m=half + float(shoulder),
        shoulder_m=float(shoulder),
        pavement_m=(pavement[0], pavement[1]),
        verge_m=float(rng.uniform(0.0, 1.0) if kind == "city" else rng.uniform(0.5, 5.0)),
        ego_d=float(own[int(rng.integers(len(own)))]),
        speed_m_s=float(rng.uniform(14, 24) if kind in ("highway", "country") else rng.uniform(6, 12)),
        road=(grey + warmth, grey, grey - warmth),
        roughness=float(rng.uniform(0.25, 1.0)),
        pavement=(stone + stone_warmth, stone, stone - 0.7 * stone_warmth),
        kerb=(stone * 1.12, stone * 1.1, stone * 1.06),
        slab_m=float(rng.choice([0.0, 0.3, 0.5, 1.0, 2.0])),
        terrain=(stone * 0.85, stone * 0.83, stone * 0.8) if yard else grass,
        terrain_is_paved=bool(yard),
        marking=(235.0, 235.0, 228.0) if rng.random() < 0.8 else (228.0, 188.0, 70.0),
        edge_lines=bool(rng.random() < {"city": 0.3, "suburb": 0.3, "village": 0.3, "lane": 0.1}.get(kind, 0.9)),
        centre_marking="none"
        if kind == "lane"
        else str(rng.choice(["none", "dashed", "solid", "double"], p=(0.12, 0.6, 0.16, 0.12))),
        dash_m=(float(rng.uniform(1.5, 4.5)), float(rng.uniform(3, 9))),
        leaf_hue=float(rng.uniform(0.18, 0.33) if rng.random() < 0.8 else rng.uniform(0.06, 0.15)),
        leaf_value=float(rng.uniform(0.28, 0.6)),
        traffic=float(rng.uniform(0.05, 0.8)),
        crowd=float(rng.uniform(0.0, 1.0)),
    )
