"""What ``eomt-ext export --precision int8`` measures: images for the ranges, and labelled ones for the accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import EngineConfig
from eomt_ext_core.errors import ConfigError, InferenceError

if TYPE_CHECKING:
    from eomt_ext_core.datasets import Dataset
    from eomt_ext_core.engine import AnomalyEngine

MOST_FALL = 0.01
_MOST_IMAGES = 64  # the range of an activation changes little after some dozen


def calibration_images(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Read images (H, W, 3) uint8 of a folder, 64 at most, evenly spaced in the order of their names.

    Raises:
        ConfigError: if there are none.
        ImageError: if one cannot be read.
    """
    from eomt_ext_core.images import list_images, read_rgb

    paths = sorted(list_images(folder))
    if not paths:
        raise ConfigError(f"--calibration needs a folder with images, got none in {folder}")
    step = -(-len(paths) // _MOST_IMAGES)
    return (read_rgb(path) for path in paths[::step])


def check_auprc(exact: AnomalyEngine, exported: Path, scores: Sequence[str], datasets: Sequence[Dataset]) -> list[str]:
    """Compare the AuPRC of an exported file with that of the engine in float32.

    Args:
        exact: the model that was exported.
        exported: the file.
        scores: to compare.
        datasets: labelled images.

    Returns:
        a line for each set and score.

    Raises:
        InferenceError: if one falls by more than 1 point.
    """
    from eomt_ext_core.engine import AnomalyEngine
    from eomt_ext_core.evaluation import PixelMetrics
    from eomt_ext_core.progress import tracked

    engines = exact, AnomalyEngine.load(exported, EngineConfig("cpu", "onnxruntime", score=scores[0]))
    lines, fallen = [], []
    for dataset in datasets:
        samples = [sample for sample in dataset.samples if sample.label_path is not None]
        counted = [{score: PixelMetrics() for score in scores} for _ in engines]
        for sample in tracked(samples, f"checking on {dataset.name}", len(samples)):
            image, labels = dataset.read(sample)
            assert labels is not None
            for engine, metrics in zip(engines, counted, strict=True):
                for score, values in engine.score_maps(image, scores).items():
                    metrics[score].update(values, labels)
        for score in scores:
            before, after = (metrics[score].compute().auprc for metrics in counted)
            lines.append(f"{dataset.name}, {score}: AuPRC {100 * before:.2f} in fp32, {100 * after:.2f} in int8")
            if not after >= before - MOST_FALL:
                fallen.append(lines[-1])
    if fallen:
        raise InferenceError(
            f"the exported file is discarded: int8 may cost {100 * MOST_FALL:g} point of AuPRC, got "
            f"{'; '.join(fallen)}: give more calibration images like those of the vehicle, or choose fp32 or fp16"
        )
    return lines
