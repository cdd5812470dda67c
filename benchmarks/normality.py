"""How many false obstacles a drive's later half gives with head, normality and fused, learnt from its first half.

    python benchmarks/normality.py DRIVE… --labelled DATA_SET… --rate-hz 25

The thresholds are those at which each score finds the same fraction of the anomalous pixels of labelled images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer

from eomt_ext_core import AnomalyEngine, EngineConfig, load_model
from eomt_ext_core.datasets import open_datasets
from eomt_ext_core.evaluation.metrics.pixel_metrics import exceeds
from eomt_ext_core.normality.drives import Drive, open_drives
from eomt_ext_core.normality.learning import LearnConfig, learn_normality
from eomt_ext_core.progress import tracked

LEAST_AREA_PX = 50
RECALLS = (0.5, 0.8, 0.95)
PIXELS_OF_AN_IMAGE = 20_000


@dataclass(frozen=True)
class FirstHalf:
    """The first half of a drive."""

    drive: Drive

    @property
    def name(self) -> str:
        return self.drive.name

    @property
    def num_images(self) -> int:
        return self.drive.num_images // 2

    def images(self, start: int, stop: int, every: int):
        return self.drive.images(start, min(stop, self.num_images), every)


def main(
    drives: list[Path],
    labelled: Annotated[list[Path], typer.Option(help="data sets whose anomalous pixels are to be found")],
    rate_hz: Annotated[float, typer.Option(help="images of a drive a second")],
    checkpoint: str = "demo",
) -> None:
    model, opened = load_model(checkpoint), open_drives(drives)
    halves = [FirstHalf(drive) for drive in opened]
    normality = learn_normality(halves, lambda known: AnomalyEngine(model, normality=known), {}, LearnConfig())
    engine = AnomalyEngine(model, EngineConfig(drift_alpha=0.0), normality)

    def logits(image: np.ndarray) -> np.ndarray:
        """(3, H, W): head, normality and fused."""
        distance, head = engine.distances(image)
        both = [normality.readings[name](torch.from_numpy(head), torch.from_numpy(distance)).numpy()
                for name in ("normality", "fused")]  # fmt: skip
        return np.stack([head, *both])

    found, rng = [], np.random.default_rng(0)
    samples = [(data, sample) for folder in labelled for data in open_datasets(folder) for sample in data.samples]
    for data, sample in tracked(samples, "labelled images", len(samples)):
        image, labels = data.read(sample)
        anomalous = logits(image)[:, labels == 1]
        if anomalous.shape[1]:
            found.append(anomalous[:, rng.integers(anomalous.shape[1], size=PIXELS_OF_AN_IMAGE)])
    thresholds = np.quantile(np.concatenate(found, axis=1), [1 - recall for recall in RECALLS], axis=1)

    pixels, obstacles, images = np.zeros(thresholds.shape), np.zeros(thresholds.shape), 0
    for drive in opened:
        rest = drive.num_images - drive.num_images // 2
        for image in tracked(drive.images(drive.num_images // 2, drive.num_images, 1), drive.name, rest):
            images += 1
            maps = logits(image)
            for place in np.ndindex(*thresholds.shape):
                mask = exceeds(maps[place[1]], thresholds[place])
                pixels[place] += mask.mean()
                areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
                obstacles[place] += np.count_nonzero(areas >= LEAST_AREA_PX)
    print(f"{images} images; false-positive rate in %, false obstacles a minute")
    for row, recall in enumerate(RECALLS):
        cells = [
            f"{name} {100 * pixels[row, column] / images:.2f}, {60 * rate_hz * obstacles[row, column] / images:.0f}"
            for column, name in enumerate(("head", "normality", "fused"))
        ]
        print(f"{recall:.0%} of the anomalous pixels found: {'; '.join(cells)}")


if __name__ == "__main__":
    typer.run(main)
