"""The gallery: the built-in model on photographs, written by ``python docs/gallery.py PHOTOS [--video OVERLAY]``.

Each photograph is shown twice: as it is, where everything that is marked is a false alarm, and with drawn things pasted
onto its road. The seed is fixed and nothing is left out. ``OVERLAY``, an overlay video of ``make demo``, becomes the
animation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from eomt_ext_training.data.cutouts import ProceduralCutouts
from eomt_ext_training.data.pasting import Footing, Pasting, find_footing, paste, scene_colours
from eomt_ext_training.data.sample import ANOMALOUS
from numpy.typing import NDArray
from PIL import Image

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.config import ObstacleConfig
from eomt_ext_core.files import atomic_write, sha256_of
from eomt_ext_core.images import list_images, read_rgb
from eomt_ext_core.model.checkpoint import resolve_source
from eomt_ext_core.obstacles import find_obstacles
from eomt_ext_core.scenes import Sprite
from eomt_ext_core.visualization import overlay

DOCS = Path(__file__).resolve().parent
SEED, THINGS = 0, 3  # things pasted into each photograph
HORIZON = 0.57  # of these photographs, as a fraction of their height
SHOWN_HW = (270, 480)
FRAMES_PER_SECOND = 7.5

HEAD = """# Gallery

The built-in model on six photographs of a motorway. It was trained on drawn scenes only. On the left is the overlay of
the photograph as it is: nothing on the road is unusual, so that everything in a frame is a false alarm. Beside it are
the same photograph with drawn things on its road, of the kind that the model was trained with, and its overlay. The
things are pasted at random with a fixed seed; none is left out.

Written by `python docs/gallery.py PHOTOS`. The photographs are by Udacity, [MIT licence](images/road/LICENSE.txt).
Figures on labelled frames are in [benchmarks](benchmarks.md). What is wrong here gets better with a model trained on
your roads, or with [what is ordinary there](normality.md).
"""


class Shot(NamedTuple):
    """One photograph, and what the model made of it.

    Args:
        name: of the file, without its suffix.
        false_alarms: obstacles in the photograph as it is.
        found, pasted: the things that some obstacle touches, and all of them.
        picture: overlay, photograph with things, and its overlay, side by side, RGB.
    """

    name: str
    false_alarms: int
    found: int
    pasted: int
    picture: NDArray[np.uint8]


def shoot(photo: Path, engine: AnomalyEngine, rng: np.random.Generator) -> Shot:
    """Process one photograph, as it is and with things on its road."""
    image = read_rgb(photo)
    littered, things = with_things(image, rng)
    panels, masks, numbers = [], [], []
    for shown in (image, littered):
        probability = engine.infer(shown).probability
        found = find_obstacles(probability, ObstacleConfig(), threshold=engine.threshold)
        boxes = [obstacle.box_xywh for obstacle in found.obstacles]
        panels.append(small(overlay(shown, probability, found.mask, boxes_xywh=boxes)))
        masks.append(found.mask)
        numbers.append(len(boxes))
    touched = sum(bool(masks[1][thing].any()) for thing in things)
    panels.insert(1, small(littered))
    return Shot(photo.stem, numbers[0], touched, len(things), np.hstack(panels))


def small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce a picture to the size that pages show."""
    return np.asarray(cv2.resize(rgb, SHOWN_HW[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def with_things(
    image_rgb: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Paste drawn things onto the road, and say where each is, (H, W) bool."""
    height, width = image_rgb.shape[:2]
    horizon, pasting = HORIZON * height, Pasting(min_px=14)
    road = np.zeros((height, width), np.uint8)
    corners = [(0.45, HORIZON + 0.04), (0.55, HORIZON + 0.04), (0.85, 0.98), (0.15, 0.98)]
    cv2.fillConvexPoly(road, np.array([(x * width, y * height) for x, y in corners], np.int32), 1)
    colours = scene_colours(image_rgb, np.ones((height, width), bool), horizon)
    placed: list[tuple[Footing, Sprite]] = []
    while len(placed) < THINGS:
        sprite = ProceduralCutouts().draw(rng, height / 2)
        footing = find_footing(road > 0, horizon, sprite, pasting, rng)
        if footing is not None:
            placed.append((footing, sprite))
    littered, things = image_rgb.copy(), []
    for footing, sprite in sorted(placed, key=lambda pair: pair[0].row):
        labels = np.zeros((height, width), np.uint8)
        paste(littered, labels, sprite, footing, colours, pasting, rng)
        things.append(labels == ANOMALOUS)
    return littered, things


def page(shots: Sequence[Shot], model_sha256: str) -> Iterator[str]:
    """Give the page, part by part."""
    yield HEAD
    alarms, found, pasted = (sum(column) for column in zip(*(shot[1:4] for shot in shots), strict=True))
    yield f"\nTogether: {alarms} false alarms in {len(shots)} photographs, and {found} of {pasted} pasted things found"
    yield f" (an obstacle touches them).\nThe model: `demo`, SHA-256 `{model_sha256}`.\n"
    for shot in shots:
        text = f"{shot.name}: as it is, with things on its road, and what is found"
        yield f"\n## {shot.name}\n\n![{text}](images/road/{shot.name}.jpg)\n\n"
        yield f"False alarms: {shot.false_alarms}. Of {shot.pasted} pasted things, {shot.found} found.\n"


def animate(video: Path, output: Path) -> None:
    """Write an overlay video as a small animation that pages show without a player."""
    capture = cv2.VideoCapture(str(video))
    step = max(1, round(capture.get(cv2.CAP_PROP_FPS) / FRAMES_PER_SECOND))
    frames: list[Image.Image] = []
    while capture.grab():
        if len(frames) * step <= capture.get(cv2.CAP_PROP_POS_FRAMES) - 1:
            rgb = np.asarray(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB), np.uint8)
            frames.append(Image.fromarray(small(rgb)))
    milliseconds = round(1000 / FRAMES_PER_SECOND)
    with atomic_write(output) as temporary:
        frames[0].save(temporary, "WEBP", save_all=True, append_images=frames[1:], duration=milliseconds, quality=45)


def main() -> None:
    """Write the pictures and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="folder with the photographs and their LICENSE")
    parser.add_argument("--video", type=Path, help="overlay.mp4 of `make demo`, for the animation")
    args = parser.parse_args()
    engine = AnomalyEngine(load_model("demo"), EngineConfig(device="cpu", precision="fp32"))
    rng = np.random.default_rng(SEED)
    shots = [shoot(photo, engine, rng) for photo in list_images(args.photos)]
    folder = DOCS / "images" / "road"
    for shot in shots:
        with atomic_write(folder / f"{shot.name}.jpg") as temporary:
            Image.fromarray(shot.picture).save(temporary, quality=82)
    with atomic_write(folder / "LICENSE.txt") as temporary:
        temporary.write_bytes((args.photos / "LICENSE").read_bytes())
    with atomic_write(DOCS / "gallery.md") as temporary:
        temporary.write_text("".join(page(shots, sha256_of(resolve_source("demo")))), encoding="utf-8")
    if args.video is not None:
        animate(args.video, DOCS / "images" / "demo.webp")


if __name__ == "__main__":
    main()
