"""The two passes of an evaluation, as values that travel between processes and merge exactly.

The segment metrics need the threshold of the best pixel F1 of the whole set. So a first pass counts scores, a plan
chooses the thresholds, and a second pass reads the same frames again. Counts are whole numbers, every division is done
once, and frames are sorted by their id: the result is the same to the last digit for any distribution of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, SegmentTrack
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation.detail import FrameDetail
from eomt_ext_core.evaluation.metrics.calibration import Calibration
from eomt_ext_core.evaluation.metrics.pixel_metrics import Mode, PixelMetrics
from eomt_ext_core.evaluation.metrics.segment_metrics import SegmentMetrics
from eomt_ext_core.evaluation.panels import Panel
from eomt_ext_core.evaluation.result import EvaluationResult, FrameResult, FrameScore, ScoreResult
from eomt_ext_core.intervals.frame_counts import NUM_EDGES, FloatArray, FrameCounts

MAX_PANELS = 200
_CURVE_POINTS = 400


@dataclass(frozen=True)
class Setup:
    """Settings of the evaluation of a set; only parts with equal settings can be merged.

    ``scores``: names, the first is used for thumbnails and sorting; ``name``: of the set; ``track``: of the segment
    metrics; ``mode``: of the pixel metrics; ``mask_threshold``: of the mask of each frame, and of those that the report
    shows if no labels give a better one.
    """

    scores: tuple[str, ...]
    name: str = ""
    track: SegmentTrack = ANOMALY_TRACK
    mode: Mode = "streaming"
    mask_threshold: float = 0.5


@dataclass(frozen=True)
class SecondPlan:
    """Input of the second pass: threshold and edges of each score with segment metrics, and the frames to show."""

    thresholds: dict[str, float]
    panel_ids: frozenset[str]
    edges: dict[str, FloatArray]


@dataclass
class FirstPass:
    """Counts and rows of some frames of a set; can be pickled and merged."""

    setup: Setup
    pixels: dict[str, PixelMetrics]
    calibrations: dict[str, Calibration]
    frames: dict[str, FrameResult] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    details: dict[str, FrameDetail] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    engines: list[dict[str, str]] = field(default_factory=list)

    @staticmethod
    def empty(setup: Setup) -> FirstPass:
        """Return the first pass of no frame."""
        return FirstPass(
            setup,
            {name: PixelMetrics(setup.mode) for name in setup.scores},
            {name: Calibration() for name in setup.scores},
        )

    def merge(self, other: FirstPass) -> None:
        """Add everything in ``other``. Raises ``ConfigError`` for another setup, ``DatasetError`` for a frame twice."""
        if self.setup != other.setup:
            raise ConfigError(f"merged evaluations must have the same setup, got {self.setup} and {other.setup}")
        twice = (self.frames.keys() | self.skipped.keys()) & (other.frames.keys() | other.skipped.keys())
        if twice:
            raise DatasetError(f"merged evaluations must have different frames, {min(twice)!r} is in both")
        for name in self.setup.scores:
            self.pixels[name].merge(other.pixels[name])
            self.calibrations[name].merge(other.calibrations[name])
        self.frames.update(other.frames)
        self.latency_ms.update(other.latency_ms)
        self.details.update(other.details)
        self.skipped.update(other.skipped)
        for engine in other.engines:
            self.ran_on(engine)

    def ran_on(self, engine: dict[str, str]) -> None:
        """Note an engine that frames ran on, as it describes itself."""
        if engine not in self.engines:
            self.engines.append(engine)

    def plan(self, max_panels: int = MAX_PANELS) -> SecondPlan:
        """Choose the thresholds and the ``max_panels`` worst frames from everything counted."""
        thresholds = {name: pixels.compute().best_threshold for name, pixels in self.pixels.items()}
        found = {name: threshold for name, threshold in thresholds.items() if not math.isnan(threshold)}
        worst = sorted(self.frames.values(), key=lambda frame: frame.badness)[:max_panels]
        return SecondPlan(found, frozenset(frame.frame_id for frame in worst), self.edges(tuple(found)))

    def edges(self, names: Sequence[str]) -> dict[str, FloatArray]:
        """Choose the edges between which the pixels of each frame are counted, for each score."""
        return {name: self.pixels[name].curve(NUM_EDGES).threshold for name in names}


@dataclass
class SecondPass:
    """Segments, rates at the threshold, counts and thumbnails of some frames; can be pickled and merged."""

    segments: dict[str, SegmentMetrics]
    rates: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    counts: dict[str, dict[str, FrameCounts]] = field(default_factory=dict)

    def merge(self, other: SecondPass) -> None:
        """Add everything in ``other``, which must come from the same plan."""
        for name, segments in self.segments.items():
            segments.merge(other.segments[name])
        self.rates.update(other.rates)
        self.panels.update(other.panels)
        self.counts.update(other.counts)


def merge_first(parts: Sequence[FirstPass]) -> FirstPass:
    """Merge the first passes of at least one part, without changing them; return a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    whole = FirstPass.empty(parts[0].setup)
    for part in parts:
        whole.merge(part)
    return whole


def merge_second(parts: Sequence[SecondPass]) -> SecondPass:
    """Merge the second passes of at least one part into the first of them."""
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    return whole


def summarise(first: FirstPass, second: SecondPass) -> EvaluationResult:
    """Combine both passes over a whole set into the result."""
    setup = first.setup
    frames = tuple(
        replace(
            first.frames[frame_id], scores=_with_rates(first.frames[frame_id].scores, second.rates.get(frame_id, {}))
        )
        for frame_id in sorted(first.frames)
    )
    scores = {}
    if any(frame.scores for frame in frames):
        scores = {
            name: ScoreResult(
                pixel=first.pixels[name].compute(),
                segment=second.segments[name].compute() if name in second.segments else None,
                calibration=first.calibrations[name].compute(),
                curve=first.pixels[name].curve(_CURVE_POINTS),
            )
            for name in setup.scores
        }
    worst = [frame.frame_id for frame in sorted(frames, key=lambda frame: frame.badness)]
    return EvaluationResult(
        name=setup.name,
        track=setup.track.name,
        mode=setup.mode,
        scores=scores,
        frames=frames,
        panels={frame_id: second.panels[frame_id] for frame_id in worst if frame_id in second.panels},
        latency_ms={frame_id: first.latency_ms[frame_id] for frame_id in sorted(first.latency_ms)},
        skipped={frame_id: first.skipped[frame_id] for frame_id in sorted(first.skipped)},
        edges=first.edges(tuple(second.segments)),
        counts={frame_id: second.counts[frame_id] for frame_id in sorted(second.counts)},
        engines=tuple(first.engines),
        details=dict(first.details),
        mask_threshold=setup.mask_threshold,
    )


def _with_rates(scores: dict[str, FrameScore], rates: dict[str, tuple[float, float]]) -> dict[str, FrameScore]:
    return {
        name: replace(score, recall=rates[name][0], false_positive_rate=rates[name][1]) if name in rates else score
        for name, score in scores.items()
    }
