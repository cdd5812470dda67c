"""Evaluation of frames from any source: data sets, recorded bags, or shards of them on several machines.

In one process, call ``Evaluator.update`` for every frame and then ``Evaluator.result``. In several processes or
machines every part has its own evaluator, and only the values of ``passes`` travel::

    first = merge_first([evaluator.first_pass() for evaluator in parts])
    plan = first.plan()
    result = summarise(first, merge_second([evaluator.spooled().second_pass(plan) for evaluator in parts]))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from eomt_ext_core.datasets.labels import ANOMALOUS, NORMAL
from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, SegmentTrack
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.metrics.calibration import Calibration
from eomt_ext_core.evaluation.metrics.pixel_metrics import Mode, PixelMetrics, exceeds
from eomt_ext_core.evaluation.metrics.segment_metrics import SegmentMetrics
from eomt_ext_core.evaluation.panels import Panel, image_thumbnail, labels_thumbnail, levels_thumbnail
from eomt_ext_core.evaluation.passes import MAX_PANELS, FirstPass, SecondPass, SecondPlan, Setup, summarise
from eomt_ext_core.evaluation.result import EvaluationResult, FrameResult, FrameScore
from eomt_ext_core.evaluation.spool import Spool
from eomt_ext_core.files import printable
from eomt_ext_core.intervals.frame_counts import FloatArray, FrameCounts, count_pixels

_LEVELS = "levels of "  # a thumbnail of each score


@dataclass(frozen=True)
class SpooledFrames:
    """Frames on the disk of this machine, by id."""

    setup: Setup
    files: dict[str, Path]

    def second_pass(self, plan: SecondPlan) -> SecondPass:
        """Read the spooled frames again and evaluate them at the thresholds of the plan."""
        second = SecondPass(
            {name: SegmentMetrics(self.setup.track, threshold) for name, threshold in plan.thresholds.items()}
        )
        for frame_id in sorted(self.files):
            frame = Spool.read(self.files[frame_id])
            truth = None
            if frame.labels is not None:
                labels = frame.labels
                rates, second.counts[frame_id] = {}, {}
                for name, segments in second.segments.items():
                    alone = SegmentMetrics(self.setup.track, plan.thresholds[name])
                    alone.update(frame.scores[name], labels)
                    second.counts[frame_id][name] = _counts(frame.scores[name], labels, plan.edges[name], alone)
                    segments.merge(alone)
                    rates[name] = _rates(exceeds(frame.scores[name], plan.thresholds[name]), labels)
                second.rates[frame_id] = rates
                truth = labels_thumbnail(labels)
            if frame_id in plan.panel_ids:
                levels = {name: frame.thumbnails[f"{_LEVELS}{name}"] for name in self.setup.scores}
                second.panels[frame_id] = Panel(frame.thumbnails["image"], levels, truth)
        return second


class Evaluator:
    """Evaluate frames one by one, in constant memory but for a row for each frame; the frames are spooled to the disk.

    ``scores``: names of the scores, the first is used for thumbnails and sorting; the other settings are those of
    :class:`Setup`. ``spool_folder``: folder for the spool, by default the system's folder for temporary files;
    ``close`` (or the end of the ``with`` block) deletes the spool.

    >>> with Evaluator(["head"], name="doc") as evaluator:
    ...     evaluator.update("0", np.zeros((2, 2, 3), np.uint8), {"head": np.float32([[0.9, 0.1], [0.2, 0.3]])},
    ...                      np.uint8([[1, 0], [0, 255]]))
    ...     evaluator.result().scores["head"].pixel.auprc
    1.0
    """

    def __init__(
        self,
        scores: Sequence[str],
        *,
        name: str = "",
        track: SegmentTrack = ANOMALY_TRACK,
        mode: Mode = "streaming",
        mask_threshold: float = 0.5,
        spool_folder: str | Path | None = None,
    ) -> None:
        if not scores or len(set(scores)) != len(scores):
            raise ConfigError(f"scores must be different names, got {', '.join(scores) or 'none'}")
        self.setup = Setup(tuple(scores), printable(name), track, mode, mask_threshold)
        self._first = FirstPass.empty(self.setup)
        self._spools = [Spool(spool_folder)]
        self._files: dict[str, Path] = {}

    def update(
        self,
        frame_id: str,
        image_rgb: NDArray[np.uint8],
        scores: Mapping[str, NDArray[np.float32]],
        labels: NDArray[np.uint8] | None = None,
        latency_ms: float | None = None,
        detail: FrameDetail | None = None,
    ) -> None:
        """Add a frame.

        Args:
            frame_id: any text, unique in the set; frames are reported in its order. Invalid UTF-8 is escaped.
            image_rgb: (H, W, 3) uint8, only for the thumbnail.
            scores: (H, W) float32 in [0, 1] for each name of the setup.
            labels: (H, W), 0 normal, 1 anomalous, 255 void; None for a frame that is only shown and timed.
            latency_ms: time that the frame took, if known.
            detail: for the report.

        Raises:
            DatasetError: for a repeated id, different sizes, other label values, or scores outside [0, 1].
        """
        frame_id = self._new(frame_id)
        size_hw = (image_rgb.shape[0], image_rgb.shape[1])
        for name in self.setup.scores:
            score = scores.get(name)
            if score is None or score.dtype != np.float32 or score.shape != size_hw:
                got = "none" if score is None else f"{score.shape} {score.dtype}"
                raise DatasetError(f"frame {frame_id!r} needs the score {name!r} as {size_hw} float32, got {got}")
        rows = {}
        if labels is not None:
            calibrations = {name: Calibration() for name in self.setup.scores}
            try:
                for name, calibration in calibrations.items():
                    rows[name] = _frame_score(scores[name], labels)
                    calibration.update(scores[name], labels)
            except DatasetError as error:
                raise DatasetError(f"frame {frame_id!r}: {error}") from error
            labels = np.asarray(labels).astype(np.uint8, copy=False)
            for name, calibration in calibrations.items():
                self._first.pixels[name].update(scores[name], labels)
                self._first.calibrations[name].merge(calibration)
        main = scores[self.setup.scores[0]]
        mask = main > self.setup.mask_threshold
        thumbnails = {f"{_LEVELS}{name}": levels_thumbnail(scores[name]) for name in self.setup.scores}
        thumbnails["image"] = image_thumbnail(image_rgb)
        self._files[frame_id] = self._spools[0].write(len(self._files), labels, scores, thumbnails)
        is_normal, is_anomalous = (
            np.zeros(size_hw, np.bool_) if labels is None else labels == kind for kind in (NORMAL, ANOMALOUS)
        )
        num_anomalous = int(np.count_nonzero(is_anomalous))
        self._first.frames[frame_id] = FrameResult(
            frame_id,
            size_hw,
            int(np.count_nonzero(is_normal)) + num_anomalous,
            num_anomalous,
            int(np.count_nonzero(mask)) / mask.size,
            float(main.max()),
            rows,
            num_found=int(np.count_nonzero(is_anomalous & mask)),
            num_false=int(np.count_nonzero(is_normal & mask)),
        )
        if detail is not None:
            self._first.details[frame_id] = detail
        if latency_ms is not None:
            self._first.latency_ms[frame_id] = latency_ms

    def skip(self, frame_id: str, problem: str) -> None:
        """Record a frame that cannot be evaluated, with the reason.

        Raises:
            DatasetError: for a repeated id.
        """
        self._first.skipped[self._new(frame_id)] = problem

    def ran_on(self, engine: dict[str, str]) -> None:
        """Note an engine that frames ran on, as it describes itself."""
        self._first.ran_on(engine)

    def _new(self, frame_id: str) -> str:
        """Return the id as it is reported; raise ``DatasetError`` if it is not new."""
        frame_id = printable(frame_id)
        if frame_id in self._first.frames or frame_id in self._first.skipped:
            raise DatasetError(f"frame ids must be unique in a set, got {frame_id!r} twice")
        return frame_id

    def merge(self, other: Evaluator) -> None:
        """Take over everything in ``other``, including its spool, which must be on this machine."""
        self._first.merge(other._first)
        self._files.update(other._files)
        self._spools += other._spools
        other._spools = []

    def first_pass(self) -> FirstPass:
        """Return the counts so far; later frames are added to the same object."""
        return self._first

    def spooled(self) -> SpooledFrames:
        """Return the input of the second pass, without the counts; can be pickled, and is valid until ``close``."""
        return SpooledFrames(self.setup, dict(self._files))

    def result(self, max_panels: int = MAX_PANELS) -> EvaluationResult:
        """Return the result of all frames so far; more can be added afterwards.

        Args:
            max_panels: number of worst frames with thumbnails.
        """
        return summarise(self._first, self.spooled().second_pass(self._first.plan(max_panels)))

    def close(self) -> None:
        """Delete the spool."""
        for spool in self._spools:
            spool.remove()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _frame_score(score: NDArray[np.float32], labels: NDArray[np.uint8]) -> FrameScore:
    metrics = PixelMetrics("exact")
    metrics.update(score, labels)
    found = metrics.compute()
    return FrameScore(found.auprc, found.fpr95, found.auroc, math.nan, math.nan)


def _counts(
    score: NDArray[np.float32], labels: NDArray[np.uint8], edges: FloatArray, segments: SegmentMetrics
) -> FrameCounts:
    found = segments.compute()
    normal, anomalous = (count_pixels(score, labels, edges, kind).astype(np.float64) for kind in (NORMAL, ANOMALOUS))
    return FrameCounts(
        normal,
        anomalous,
        num_ground_truth=found.num_ground_truth,
        num_predicted=found.num_predicted,
        siou_sum=found.num_ground_truth and found.mean_siou * found.num_ground_truth,
        ppv_sum=found.num_predicted and found.mean_ppv * found.num_predicted,
        true_positives=np.array(found.true_positives, np.float64),
        false_positives=np.array(found.false_positives, np.float64),
    )


def _rates(mask: NDArray[np.bool_], labels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return recall and false-positive rate of a mask."""
    recall, false_positive_rate = (
        int(np.count_nonzero(mask & of_kind)) / int(np.count_nonzero(of_kind)) if of_kind.any() else math.nan
        for of_kind in (labels == ANOMALOUS, labels == NORMAL)
    )
    return recall, false_positive_rate
