"""Evaluation of data sets with an engine, in shards for several workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.config import EngineConfig, ObstacleConfig
from eomt_ext_core.datasets import Dataset, Sample
from eomt_ext_core.engine import AnomalyEngine
from eomt_ext_core.errors import DatasetError, EomtExtError, ImageError
from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.metrics.pixel_metrics import Mode
from eomt_ext_core.evaluation.run import Evaluator
from eomt_ext_core.evaluation.submission import SubmissionWriter
from eomt_ext_core.evaluation.workers import cpu_threads, engine_of_worker
from eomt_ext_core.files import message_with_path
from eomt_ext_core.obstacles import find_obstacles, reasons
from eomt_ext_core.tracking import obstacle_rows


@dataclass(frozen=True)
class DatasetRun:
    """Settings of an evaluation.

    ``checkpoint`` and ``engine``: the network; ``head``: a separate file with its head; ``scores``: names of
    ``config.ALL_SCORES``, the first is the one in the thumbnails; ``normality``: a file of learn-normal; ``mode``: of
    the pixel metrics; ``spool_folder``: holds the scores between the two passes; ``submission``: writes the scores of
    every image in the benchmark's format. Without it, unlabelled images are skipped. ``explain``: list why each
    obstacle is one, if the model gives semantic classes.
    """

    checkpoint: str
    engine: EngineConfig
    scores: tuple[str, ...]
    mode: Mode = "streaming"
    spool_folder: Path | None = None
    submission: SubmissionWriter | None = None
    normality: str | None = None
    explain: bool = False
    head: str | None = None

    def select(self, dataset: Dataset) -> Dataset:
        """Keep the images of a data set that this run evaluates. Raises ``DatasetError`` if none is left."""
        if self.submission is not None:
            return dataset
        labelled = tuple(sample for sample in dataset.samples if sample.label_path is not None)
        if not labelled:
            raise DatasetError(
                f"{dataset.root}: no image of the layout {dataset.layout!r} has a label: labels must have the names of "
                f"their images, such as {dataset.samples[0].frame_id}.png; --save-scores needs none"
            )
        return replace(dataset, samples=labelled)


@dataclass(frozen=True)
class DatasetShard:
    """The images of a data set that one worker evaluates."""

    run: DatasetRun
    dataset: Dataset
    worker: int
    num_workers: int

    def evaluate(self, should_continue: Callable[[], bool]) -> Evaluator:
        """Evaluate every ``num_workers``-th image; skip and report images and labels that cannot be read."""
        with cpu_threads(1):
            return self._evaluate(should_continue)

    def _evaluate(self, should_continue: Callable[[], bool]) -> Evaluator:
        run, dataset = self.run, self.dataset
        engine = _engine(run.checkpoint, engine_of_worker(run.engine, self.worker), run.head, run.normality)
        evaluator = Evaluator(
            run.scores,
            name=dataset.name,
            track=dataset.track,
            mode=run.mode,
            mask_threshold=engine.threshold if engine.has_threshold else 1.0,  # until labels give one: an empty mask
            spool_folder=run.spool_folder,
        )
        evaluator.ran_on(engine.describe())
        try:
            for sample in dataset.samples[self.worker :: self.num_workers]:
                try:
                    image_rgb, labels = dataset.read(sample)
                except (ImageError, DatasetError) as error:
                    evaluator.skip(sample.frame_id, message_with_path(sample.image_path, error))
                else:
                    self._evaluate_frame(evaluator, engine, sample, image_rgb, labels)
                if not should_continue():
                    break
        except BaseException:
            evaluator.close()
            raise
        return evaluator

    def _evaluate_frame(
        self,
        evaluator: Evaluator,
        engine: AnomalyEngine,
        sample: Sample,
        image_rgb: NDArray[np.uint8],
        labels: NDArray[np.uint8] | None,
    ) -> None:
        started = time.perf_counter()
        try:
            scores = engine.score_maps(image_rgb, self.run.scores)
        except EomtExtError as error:
            raise type(error)(message_with_path(sample.image_path, error)) from error
        latency_ms = 1000 * (time.perf_counter() - started)
        if self.run.submission is not None:
            self.run.submission.write(self.dataset.submission_name or self.dataset.name, sample.frame_id, scores)
        detail = None
        if engine.has_threshold:
            found = find_obstacles(scores[self.run.scores[0]], ObstacleConfig(), threshold=engine.threshold)
            explains = self.run.explain and engine.has_semantic and found.obstacles
            why = reasons(found, *engine.explain(image_rgb), engine.class_names) if explains else []
            detail = FrameDetail(obstacles=tuple(obstacle_rows(found, why)))
        evaluator.update(sample.frame_id, image_rgb, scores, labels, latency_ms, detail)


def deal_out(run: DatasetRun, datasets: Sequence[Dataset], num_workers: int) -> list[list[DatasetShard]]:
    """Return a shard of each data set for each worker."""
    return [[DatasetShard(run, dataset, worker, num_workers) for dataset in datasets] for worker in range(num_workers)]


@lru_cache(maxsize=1)  # the shards of a worker share one
def _engine(checkpoint: str, config: EngineConfig, head: str | None, normality: str | None) -> AnomalyEngine:
    return AnomalyEngine.load(checkpoint, config, head, normality=normality)
