"""What stands beside the road, by the kind of street."""

from __future__ import annotations

import numpy as np

from .drawing.textures import any_colour, hsv, scaled
from .layout import Street
from .things.cars import Car, paint_colour
from .things.furniture import BARRIER_HEIGHTS_M, BARRIER_M, Barrier, Post
from .things.people import Person
from .things.surroundings import BEYOND, INSIDE, Building, Plant, Thing


def _plant(rng: np.random.Generator, street: Street, s: float, d: float, kind: str | None = None) -> Plant:
    kind = kind or str(rng.choice(["tree", "conifer", "bush"], p=(0.55, 0.15, 0.3)))
    height = float(rng.uniform(0.7, 2.2) if kind == "bush" else rng.uniform(4, 13))
    leaf = hsv(
        street.leaf_hue + float(rng.uniform(-0.03, 0.03)),
        float(rng.uniform(0.3, 0.7)),
        street.leaf_value * float(rng.uniform(0.8, 1.25)),
    )
    bark = hsv(float(rng.uniform(0.05, 0.1)), float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.2, 0.5)))
    zone = INSIDE if street.edge(-1) < d < street.edge(1) else BEYOND
    return Plant(s, d, height, kind, leaf, bark, int(rng.integers(2**31)), zone)


def roadside(
    rng: np.random.Generator, street: Street, s: float, length_m: float, side: int, lamps: bool
) -> list[Thing]:
    """Sample what stands beside the road on [s, s + length_m) on a side (-1 left, +1 right)."""
    things: list[Thing] = []
    edge, kerb = street.edge(side), (street.right_m if side > 0 else street.left_m)
    front = edge + side * street.verge_m
    density = {"city": 0.95, "suburb": 0.7, "village": 0.55, "country": 0.08, "highway": 0.05, "lane": 0.3}[street.kind]
    position = s
    while position < s + length_m - 6:
        length = min(float(rng.uniform(8, 22)), s + length_m - position)
        if rng.random() < density:
            low = street.kind != "city"
            back = float(rng.uniform(0, 1.0) if not low else rng.uniform(2, 8)) + (
                15 if street.kind in ("country", "highway") else 0
            )
            height = float(rng.uniform(3, 7.5) if low else rng.uniform(7, 24))
            roof = float(rng.uniform(1.5, 3.5)) if low or rng.random() < 0.25 else 0.0
            hue = float(rng.uniform(0.0, 0.14) if rng.random() < 0.85 else rng.uniform(0.5, 0.65))
            wall = hsv(hue, float(rng.uniform(0.0, 0.5)), float(rng.uniform(0.35, 0.92)))
            glass = hsv(float(rng.uniform(0.5, 0.65)), float(rng.uniform(0.05, 0.35)), float(rng.uniform(0.12, 0.5)))
            accent = any_colour(rng) if rng.random() < 0.3 else scaled(wall, float(rng.uniform(0.5, 1.4)))
            things.append(
                Building(
                    position,
                    front + side * back,
                    side,
                    length - (0.0 if not low else 2.0),
                    float(rng.uniform(7, 12)),
                    height,
                    roof,
                    wall,
                    glass,
                    accent,
                    int(rng.integers(2**31)),
                )
            )
        elif street.kind != "highway" or rng.random() < 0.5:
            for _ in range(int(rng.integers(1, 5))):
                things.append(
                    _plant(
                        rng,
                        street,
                        position + float(rng.uniform(0, length)),
                        front + side * float(rng.uniform(0.5, 12)),
                    )
                )
        position += length
    fence = {"city": 0.12, "suburb": 0.5, "village": 0.4, "country": 0.3, "highway": 0.85, "lane": 0.3}[street.kind]
    if rng.random() < fence:
        kind = (
            "rail"
            if street.kind == "highway" or (street.kind == "country" and rng.random() < 0.5)
            else str(rng.choice(["picket", "post", "bars", "wall", "hedge"]))
        )
        height = BARRIER_HEIGHTS_M[kind] * float(rng.uniform(0.85, 1.2))
        colour = {"rail": (165.0, 168.0, 172.0), "hedge": hsv(street.leaf_hue, 0.5, street.leaf_value)}.get(
            kind, hsv(rng.uniform(0.03, 0.12), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9))
        )
        for part in range(int(length_m / BARRIER_M)):
            things.append(
                Barrier(s + part * BARRIER_M, edge + side * 0.3, height, kind, colour, int(rng.integers(2**31)))
            )
    paved = street.pavement_m[1] if side > 0 else street.pavement_m[0]
    foot = kerb + side * min(0.5, 0.3 * paved + 0.1)
    if street.kind in ("city", "suburb") and paved > 1.8 and rng.random() < 0.35:
        for k in range(int(rng.integers(1, 4))):
            things.append(_plant(rng, street, s + 12 * k + float(rng.uniform(0, 6)), kerb + side * 0.9, "tree"))
    if street.kind not in ("country", "lane") and (lamps or street.kind == "city"):
        things.append(
            Post(
                s + float(rng.uniform(4, 10)),
                foot,
                "lamp",
                float(rng.uniform(5, 9)),
                -side,
                hsv(0.3, 0.05, rng.uniform(0.15, 0.6)),
                int(rng.integers(2**31)),
            )
        )
    if rng.random() < 0.45:
        things.append(
            Post(
                s + float(rng.uniform(0, length_m)),
                foot + side * 0.2,
                "sign",
                float(rng.uniform(2.0, 2.9)),
                -side,
                (125.0, 127.0, 130.0),
                int(rng.integers(2**31)),
            )
        )
    if street.kind == "city" and rng.random() < 0.25:
        things.append(
            Post(
                s + 20,
                foot,
                "light",
                float(rng.uniform(2.6, 3.4)),
                -side,
                (60.0, 62.0, 60.0),
                int(rng.integers(2**31)),
            )
        )
    if paved > 0 or rng.random() < 0.15:
        for _ in range(int(rng.poisson(2.4 * street.crowd))):
            away = float(rng.uniform(0.4, max(0.6, paved - 0.4)))
            things.append(
                Person(
                    s + float(rng.uniform(0, length_m)),
                    kerb + side * away,
                    float(rng.uniform(1.45, 1.92)),
                    False,
                    float(rng.choice([-1.2, 0.0, 1.3])),
                    int(rng.integers(2**31)),
                )
            )
    if rng.random() < 0.45 * street.crowd:
        things.append(
            Person(
                s + float(rng.uniform(0, length_m)),
                kerb - side * (2.8 if street.shoulder_m > 1.9 else 0.7),
                float(rng.uniform(1.65, 1.9)),
                True,
                0.0,
                int(rng.integers(2**31)),
            )
        )
    if rng.random() < 0.2 * street.crowd:
        # People on the road are known too: what stands on a road is not an anomaly for that alone.
        across = float(rng.uniform(street.left_m + 0.5, street.right_m - 0.5))
        height = float(rng.uniform(1.45, 1.92))
        things.append(Person(s + float(rng.uniform(8, length_m)), across, height, False, 0.0, int(rng.integers(2**31))))
    if street.shoulder_m > 1.9 and street.kind == "city":
        for k in range(6):
            if rng.random() < street.traffic:
                body = str(rng.choice(["hatch", "sedan", "van"], p=(0.5, 0.35, 0.15)))
                things.append(
                    Car(
                        s + 6.6 * k + float(rng.uniform(0, 0.9)),
                        kerb - side * 1.0,
                        1 if rng.random() < 0.7 else -1,
                        body,
                        paint_colour(rng),
                        int(rng.integers(2**31)),
                    )
                )
    elif street.kind in ("suburb", "village") and rng.random() < 0.3 * street.traffic:
        things.append(
            Car(
                s + float(rng.uniform(0, 30)),
                front + side * 2.5,
                1,
                "sedan",
                paint_colour(rng),
                int(rng.integers(2**31)),
                across=True,
            )
        )
    return things
