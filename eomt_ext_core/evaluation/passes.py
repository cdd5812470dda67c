"""The two passes of an evaluation as values that travel between processes and merge exactly.

The segment metrics need the threshold of the best pixel F1 of the whole set: a first pass counts scores, a plan is made
of it, and a second pass goes over the same frames once more. Counts are whole numbers, every division is made once,
and frames are sorted by their id: the result is the same to the last digit however the frames were dealt out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from eomt_ext_core.datasets.tracks import ANOMALY_TRACK, SegmentTrack
from eomt_ext_core.errors import ConfigError, DatasetError
from eomt_ext_core.evaluation.calibration import Calibration
from eomt_ext_core.evaluation.panels import Panel
from eomt_ext_core.evaluation.pixel_metrics import Mode, PixelMetrics
from eomt_ext_core.evaluation.result import EvaluationResult, FrameResult, FrameScore, ScoreResult
from eomt_ext_core.evaluation.segment_metrics import SegmentMetrics

MAX_PANELS = 200
_CURVE_POINTS = 400


@dataclass(frozen=True)
class Setup:
    """What is evaluated and how; parts are merged only where it is the same.

    ``scores``: names, the first being the one that pictures and sorting follow; ``name``: of the set; ``track``: of
    the segment metrics; ``mode``: of the pixel metrics; ``mask_threshold``: cuts the mask in pictures of frames where
    no labels give a better one.
    """

    scores: tuple[str, ...]
    name: str = ""
    track: SegmentTrack = ANOMALY_TRACK
    mode: Mode = "streaming"
    mask_threshold: float = 0.5


@dataclass(frozen=True)
class SecondPlan:
    """What the second pass does: the threshold of each score (none: no segment metrics), and frames to picture."""

    thresholds: dict[str, float]
    panel_ids: frozenset[str]


@dataclass
class FirstPass:
    """Counts and rows of some frames of a set; can be pickled and merged."""

    setup: Setup
    pixels: dict[str, PixelMetrics]
    calibrations: dict[str, Calibration]
    frames: dict[str, FrameResult] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def empty(setup: Setup) -> FirstPass:
        """Of no frame at all."""
        return FirstPass(
            setup,
            {name: PixelMetrics(setup.mode) for name in setup.scores},
            {name: Calibration() for name in setup.scores},
        )

    def merge(self, other: FirstPass) -> None:
        """Add everything in ``other``. Raises ``ConfigError`` for another setup, ``DatasetError`` for a frame twice."""
        if self.setup != other.setup:
            raise ConfigError(f"evaluations merge only with the same setup, got {self.setup} and {other.setup}")
        twice = (self.frames.keys() | self.skipped.keys()) & (other.frames.keys() | other.skipped.keys())
        if twice:
            raise DatasetError(f"a frame must be in one part only, {min(twice)!r} is in two")
        for name in self.setup.scores:
            self.pixels[name].merge(other.pixels[name])
            self.calibrations[name].merge(other.calibrations[name])
        self.frames.update(other.frames)
        self.latency_ms.update(other.latency_ms)
        self.skipped.update(other.skipped)

    def plan(self, max_panels: int = MAX_PANELS) -> SecondPlan:
        """Decide the thresholds, and the ``max_panels`` worst frames, of everything counted."""
        thresholds = {name: pixels.compute().best_threshold for name, pixels in self.pixels.items()}
        found = {name: threshold for name, threshold in thresholds.items() if not math.isnan(threshold)}
        worst = sorted(self.frames.values(), key=lambda frame: frame.badness)[:max_panels]
        return SecondPlan(found, frozenset(frame.frame_id for frame in worst))


@dataclass
class SecondPass:
    """Segments, rates at the threshold and pictures of some frames; can be pickled and merged."""

    segments: dict[str, SegmentMetrics]
    rates: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)

    def merge(self, other: SecondPass) -> None:
        """Add everything in ``other``, made by the same plan."""
        for name, segments in self.segments.items():
            segments.merge(other.segments[name])
        self.rates.update(other.rates)
        self.panels.update(other.panels)


def merge_first(parts: Sequence[FirstPass]) -> FirstPass:
    """One first pass of all parts, at least one, which are left as they are; of one part, that part."""
    if len(parts) == 1:
        return parts[0]
    whole = FirstPass.empty(parts[0].setup)
    for part in parts:
        whole.merge(part)
    return whole


def merge_second(parts: Sequence[SecondPass]) -> SecondPass:
    """One second pass of all parts, at least one; the first of them is added to."""
    whole = parts[0]
    for part in parts[1:]:
        whole.merge(part)
    return whole


def summarise(first: FirstPass, second: SecondPass) -> EvaluationResult:
    """Make the result of both passes over a whole set."""
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
    )


def _with_rates(scores: dict[str, FrameScore], rates: dict[str, tuple[float, float]]) -> dict[str, FrameScore]:
    return {
        name: replace(score, recall=rates[name][0], false_positive_rate=rates[name][1]) if name in rates else score
        for name, score in scores.items()
    }
